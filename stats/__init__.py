"""From hits to answers: start with `questions`."""
