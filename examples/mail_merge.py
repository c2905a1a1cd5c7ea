"""Send each person of a table a mail of their own: mail_merge.py people.csv, columns email, name.

SITE, KEY and PIXEL (an id) come from the environment, and so does SMTP, as in `localhost:25`.
"""

import csv
import json
import os
import smtplib
import sys
import urllib.request
from email.message import EmailMessage

with open(sys.argv[1], encoding="utf-8-sig", newline="") as table:
    people = list(csv.DictReader(table))
request = urllib.request.Request(
    f"{os.environ['SITE']}/api/pixels/{os.environ['PIXEL']}/recipients",
    json.dumps({"recipients": [person["email"] for person in people]}).encode(),
    {"Authorization": f"Bearer {os.environ['KEY']}", "Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as answer:
    links = {link["recipient"]: link for link in json.load(answer)["data"]}
with smtplib.SMTP(os.environ.get("SMTP", "localhost:25")) as server:
    for person in people:
        link, mail = links[person["email"]], EmailMessage()
        mail["From"], mail["To"] = "news@example.org", person["email"]
        mail["Subject"] = f"Spring, {person['name']}"
        mail.set_content(f"Hello {person['name']}\n\nNo more counting: {link['optOutUrl']}\n")
        mail.add_alternative(f"<p>Hello {person['name']}</p>{link['html']}", subtype="html")
        server.send_message(mail)
print(f"Sent {len(people)} mails.")
