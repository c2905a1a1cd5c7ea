// Comfort alone: every page does all it does without this file.
"use strict";

const find = (selector) => document.querySelectorAll(selector);

// Days and hours in the reader's own zone, unless they have chosen one.
if (!document.cookie.split("; ").some((each) => each.startsWith("zone="))) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.cookie = `zone=${zone};path=/;max-age=31536000;samesite=lax`;
  const shown = document.body.dataset.zone;
  if (shown && zone && shown !== zone && document.cookie.includes("zone=")) location.reload();
}

for (const button of find("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
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
  // Who types fast has begun before this file came.
  if (name.value) name.dispatchEvent(new Event("input"));
}

// What lives: asked for again every few seconds while somebody looks.
for (const place of find("[data-live]")) {
  const again = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(place.dataset.live, { redirect: "error" });
        const text = answer.ok && await answer.text();
        if (text && text !== place.dataset.shown) {
          const known = new Set(Array.from(place.children, (each) => each.id));
          place.innerHTML = text;
          place.dataset.shown = text;
          for (const each of place.children) each.classList.toggle("new", each.id !== "" && !known.has(each.id));
        }
      } catch { /* The server is away; the next turn asks again. */ }
    }
    if (!place.querySelector("[data-done]")) setTimeout(again, 3000);
  };
  setTimeout(again, 3000);
}
