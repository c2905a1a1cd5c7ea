// Comfort only: every page does all it does without this file.
"use strict";

const find = (selector, root = document) => root.querySelectorAll(selector);

// Days and hours in the reader's own zone, unless they have chosen one.
if (!document.cookie.split("; ").some((cookie) => cookie.startsWith("zone="))) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  // The path that the pages stand under, as the server's own cookie of the zone has it.
  const path = new URL("..", document.currentScript.src).pathname;
  document.cookie = `zone=${zone};path=${path};max-age=31536000;samesite=lax`;
  const shown = document.body.dataset.zone;
  if (shown && zone && shown !== zone && document.cookie.includes("zone=")) location.reload();
}

const offerCopies = (root) => {
  for (const button of find("[data-copy]", root)) button.hidden = false;
};
offerCopies(document);
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Without TLS a browser keeps its clipboard to itself: select, for the reader to copy.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected, press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2500);
});

for (const label of find("[data-show]")) {
  label.hidden = false;
  label.addEventListener("change", () => {
    document.getElementById(label.dataset.show).type = label.control.checked ? "text" : "password";
  });
}

for (const slug of find("[data-suggest]")) {
  const name = slug.form.elements.name;
  let last = 0;
  let own = slug.value !== "";
  slug.addEventListener("input", () => { own = slug.value !== ""; });
  name.addEventListener("input", async () => {
    if (own) return;
    const turn = ++last;
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (turn !== last) return;
    const answer = name.value && await fetch(`${slug.dataset.suggest}?${new URLSearchParams({ name: name.value })}`);
    if (turn === last && !own) slug.value = answer ? (await answer.json()).slug : "";
  });
  // Whoever types fast has begun before this file came.
  if (name.value) name.dispatchEvent(new Event("input"));
}

// Popovers close on Escape and on whatever is outside of them.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const popover of find("details.popover[open]")) {
    popover.open = false;
    popover.querySelector("summary").focus();
  }
});
document.addEventListener("click", (event) => {
  for (const popover of find("details.popover[open]")) {
    if (!popover.contains(event.target)) popover.open = false;
  }
});

// How many are checked, beside what can be done with them.
for (const form of find("form.choosing")) {
  const place = form.querySelector("[data-checked]");
  const count = () => { place.textContent = `${find("tbody :checked", form).length} checked`; };
  if (place) form.addEventListener("change", count), count();
}

// What lives is read anew as one page, all of its figures together, when a hit has come.
const live = document.querySelector("[data-live]");
const focusable = "a, button, summary, input, select, [tabindex]";
const swap = (place, fresh) => {
  const focus = [...find(focusable, place)].indexOf(document.activeElement);
  const open = [...find("details", place)].map((details) => details.open);
  const known = new Set([...find("[id]", place)].map((element) => element.id));
  place.replaceChildren(...fresh.childNodes);
  place.dataset.live = fresh.dataset.live;
  place.dataset.seen = fresh.dataset.seen;
  [...find("details", place)].forEach((details, index) => { details.open = open[index] ?? details.open; });
  for (const row of find("tbody tr[id]", place)) row.classList.toggle("new", !known.has(row.id));
  if (focus >= 0) find(focusable, place)[focus]?.focus({ preventScroll: true });
  offerCopies(place);
};
const again = async () => {
  // Nobody's typing is swapped away, nor a value that somebody points at.
  const busy = document.hidden || live.querySelector("details.popover[open], input:focus, .slots g:hover, .slots g:focus");
  if (!busy) {
    try {
      const newest = await fetch(live.dataset.live, { redirect: "error" });
      if (newest.ok && (await newest.text()) !== live.dataset.seen) {
        const answer = await fetch(location.href, { redirect: "error" });
        const page = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page && page.querySelector("[data-live]");
        if (fresh) swap(live, fresh);
      }
    } catch { /* The server is away; the next turn asks again. */ }
  }
  setTimeout(again, 3000);
};
if (live) setTimeout(again, 3000);
