"""One hit's way in: image, intake, recorder, references; and what fetched it."""
