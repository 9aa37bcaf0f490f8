// Reads the page of a running search again, and puts back what its reader had chosen.
//
// Without a script the page reads itself again by a meta element. With it, it waits until its
// reader has been idle for as long.
"use strict";

const FIELDS = ".controls :is(input, select)";

// Every field and every sorted head by its section and its place there: sections may be added.
function listChoices() {
  const found = new Map();
  for (const section of document.querySelectorAll("section")) {
    const title = section.querySelector("h2").textContent;
    section.querySelectorAll(`${FIELDS}, thead th`).forEach((element, number) => {
      found.set(`${title} ${number}`, element);
    });
  }
  return found;
}

function readChoices() {
  const chosen = {};
  for (const [key, element] of listChoices()) {
    const last = element.type === "range" && element.value === element.max;
    const value = element.tagName === "TH" ? element.getAttribute("aria-sort") : element.value;
    if (value && !last && value !== NO_TRIAL) chosen[key] = value;
  }
  return chosen;
}

function putBack(chosen) {
  for (const [key, element] of listChoices()) {
    const value = chosen[key];
    if (value === undefined) continue;
    if (element.tagName === "TH") {
      const clicks = value === "descending" ? 2 : 1;
      for (let click = 0; click < clicks; click++) element.querySelector("button")?.click();
    } else {
      const before = element.value;
      element.value = value;
      if (element.value === "" && before !== "") element.value = before; // no such option any more
      element.dispatchEvent(new Event(element.tagName === "SELECT" ? "change" : "input"));
    }
  }
}

function readAgain(seconds) {
  const name = `choices ${location.pathname}`;
  let idle = 0;
  for (const kind of ["input", "keydown", "pointerdown"]) {
    document.addEventListener(kind, () => { idle = 0; });
  }
  try {
    putBack(JSON.parse(sessionStorage.getItem(name)) || {});
  } catch { /* a browser may keep nothing for a file */ }
  setInterval(() => {
    idle += 1;
    if (idle < seconds) return;
    try {
      sessionStorage.setItem(name, JSON.stringify(readChoices()));
    } catch { /* as above */ }
    location.reload();
  }, 1000);
}
