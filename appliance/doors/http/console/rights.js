// The page of rights: consents, protected voices, people, tokens and tenants.
import { beginAccess, showPeople, showTenants, showTokens } from "./access.js";
import { $, element } from "./builders.js";
import { beginConsents, showConsents } from "./consents.js";
import { beginGuards, showGuards } from "./guards.js";
import { RIGHTS } from "./rights-words.js";
import { addWords, currentLanguage, setLanguage, showWords, word } from "./words.js";

addWords(RIGHTS);

// Not everybody may see everything: a section that is refused says so and the others are there.
const PARTS = [[showConsents, "consents"], [showGuards, "protected"], [showPeople, "people"], [showTokens, "tokens"], [showTenants, "tenants"]];

async function show([part, list]) {
  try {
    await part();
  } catch (error) {
    $(list).replaceChildren(element("li", { class: "empty" }, `${error.message} ${error.remedy ?? ""}`));
  }
}

async function showAll() {
  showWords();
  document.title = `voiced · ${word("r_title")}`;
  $("language").textContent = word("other");
  beginLists();
  await Promise.all(PARTS.map(show));
}

let hasBegun = false;
function beginLists() {
  if (hasBegun) return;
  hasBegun = true;
  beginConsents();
  beginGuards();
  beginAccess();
}

$("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "zh" ? "en" : "zh");
  location.reload(); // what is half filled in would mix languages
});
showAll();
