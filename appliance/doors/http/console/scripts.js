// Scripts: their lines, what publishing would do and how far it is, what was published, what changed.
import { call, events, get, post } from "./api.js";
import { $, element, fill, guarded, onSubmit, tag, what } from "./builders.js";
import { currentLanguage, setLanguage, showWords, word } from "./words.js";

const OPEN = ["rendering", "delivering"];
let script = ""; // the one that is shown
let present = null; // its newest revision; number 0: it is not saved yet

const path = () => `/v1/scripts/${encodeURIComponent(script)}`;
const button = (title, work) => element("button", { type: "button", class: "small", onclick: guarded(work) }, title);
const when = (time) => new Date(time).toLocaleString(currentLanguage());

// ---------------------------------------------------------------- scripts

async function showScripts() {
  const rows = (await get("/v1/scripts?limit=200")).items;
  const row = (one) => element("li", {}, what(one.title || one.id, word("s_revision", { number: one.revision })),
    tag(one.published ? word("s_published") : word("s_unpublished"), "grey"), button(word("s_open"), () => open(one.id)));
  fill($("scripts"), rows.map(row), word("s_none"));
}

async function open(id) {
  script = id;
  history.replaceState(null, "", `?script=${encodeURIComponent(id)}`);
  try {
    const { revision } = await get(path());
    present = await get(`${path()}/revisions/${revision}`);
  } catch (error) {
    if (error.status !== 404) throw error;
    present = { number: 0, lines: [], variables: {}, voice: "", language: "auto" };
  }
  await showEditor();
  for (const name of ["publishing", "history"]) $(name).hidden = !present.number;
  if (present.number) await Promise.all([showPlan(), showPublications(), showRevisions()]);
}

// ---------------------------------------------------------------- lines

async function showEditor() {
  const voices = (await get("/v1/voices?limit=200")).items.filter((voice) => voice.current);
  const names = new Set([...voices.map((voice) => voice.id), present.voice].filter(Boolean));
  $("voice").replaceChildren(element("option", { value: "" }, word("s_default")), ...[...names].map((name) => element("option", { value: name }, name)));
  $("voice").value = present.voice;
  $("name").textContent = script;
  $("variables").value = Object.entries(present.variables).map(([name, values]) => `${name}=${values.join(",")}`).join("; ");
  $("comment").value = "";
  $("lines").replaceChildren(...present.lines.map(lineRow));
  if (!present.lines.length) $("lines").append(lineRow());
  $("editor").hidden = false;
}

function lineRow(line = { name: "", text: "", voice: "", language: "", speed: 1, comment: "", cue: null }) {
  const field = (tagName, name, value, more = {}) => {
    const node = element(tagName, { "aria-label": `${word(`s_${name}`)} ${line.name}`, ...more });
    node.value = value;
    node.dataset.field = name;
    return node;
  };
  const row = element("li", {},
    field("input", "name", line.name, { required: "", maxlength: "80" }),
    field("textarea", "text", line.text, { required: "", rows: "1", maxlength: "5000" }),
    field("input", "lineVoice", line.voice, { placeholder: word("s_asScript") }),
    button("×", () => row.remove()));
  row.lastChild.setAttribute("aria-label", word("remove", { name: line.name }));
  row.line = line; // what the page does not show stays as it is: pace, cue, comment
  return row;
}

function readLines() {
  return [...$("lines").children].map((row) => {
    const value = (name) => row.querySelector(`[data-field=${name}]`).value;
    return { ...row.line, name: value("name").trim(), text: value("text"), voice: value("lineVoice").trim() };
  });
}

function readVariables() {
  const pairs = $("variables").value.split(";").map((part) => part.split("=")).filter(([name]) => name.trim());
  return Object.fromEntries(pairs.map(([name, values]) => [name.trim(), (values ?? "").split(",").map((one) => one.trim())]));
}

async function save() {
  const order = { lines: readLines(), variables: readVariables(), voice: $("voice").value, language: present.language, comment: $("comment").value, expected: present.number };
  const saved = await (await call(path(), { method: "PUT", json: order })).json();
  $("state").textContent = word("s_saved", { number: saved.number });
  await Promise.all([open(script), showScripts()]);
}

// ---------------------------------------------------------------- publishing

async function showPlan() {
  const plan = await get(`${path()}/plan`);
  const figures = { lines: plan.lines.length, render: plan.to_render, characters: plan.characters, channels: plan.channels.join(", ") || "–" };
  $("plan").textContent = word("s_plan", figures);
  $("refused").replaceChildren(...plan.refused.map((row) => element("li", {}, `${row.line}: ${row.message} `, element("span", {}, row.remedy))));
  $("publish").disabled = plan.refused.length > 0 || !plan.lines.length;
}

async function showPublications() {
  const { published } = await get(path());
  const rows = (await get(`${path()}/publications?limit=20`)).items;
  const row = (one) => {
    const detail = [word("s_revision", { number: one.revision }), when(one.created_at), one.author, one.error?.message].filter(Boolean).join(" · ");
    const state = one.number === published ? word("s_heardNow") : word(`s_${one.state}`);
    const back = one.state === "published" && one.number !== published
      ? [button(word("s_rollback"), async () => follow(await post(`${path()}/rollback`, { to: one.number })))]
      : [];
    return element("li", {}, what(`${one.number} · ${word(`s_kind_${one.kind}`)}`, detail), tag(state, one.state === "failed" ? "bad" : one.number === published ? "" : "grey"), ...back);
  };
  $("publications").replaceChildren(...rows.map(row));
  const running = rows.find((one) => OPEN.includes(one.state));
  if (running && $("progress").hidden) guarded(follow)(running);
}

async function follow(publication) {
  const shown = script;
  $("progress").hidden = false;
  $("publish").disabled = true;
  try {
    for await (const row of events(`${path()}/publications/${publication.number}/events`)) {
      if (script !== shown) return;
      $("progress").value = row.to_render ? row.rendered / row.to_render : 1;
      $("state").textContent = row.error ? `${row.error.message} ${row.error.remedy}` : word("s_progressTold", { state: word(`s_${row.state}`), done: row.rendered, all: row.to_render });
    }
  } finally {
    $("progress").hidden = true;
  }
  await Promise.all([showPlan(), showPublications(), showScripts()]);
}

// ---------------------------------------------------------------- history

async function showRevisions() {
  const rows = (await get(`${path()}/revisions?limit=20`)).items;
  const row = (one) => element("li", {}, what(word("s_revision", { number: one.number }), [when(one.created_at), one.author, one.comment].filter(Boolean).join(" · ")),
    ...(one.number > 1 ? [button(word("s_changes", { number: one.number }), () => showDifference(one.number))] : []));
  $("revisions").replaceChildren(...rows.map(row));
  $("difference").replaceChildren();
}

async function showDifference(number) {
  const found = await get(`${path()}/difference?old=${number - 1}&new=${number}`);
  const told = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  const change = (title, one) => element("li", {}, element("b", {}, title), element("del", {}, told(one.from)), element("ins", {}, told(one.to)));
  const rows = [
    ...found.added.map((line) => element("li", {}, element("b", {}, `+ ${line.name}`), element("ins", {}, line.text))),
    ...found.removed.map((line) => element("li", {}, element("b", {}, `− ${line.name}`), element("del", {}, line.text))),
    ...found.changed.flatMap(({ line, fields }) => Object.entries(fields).map(([field, one]) => change(`${line} · ${field}`, one))),
    ...Object.entries(found.settings).map(([field, one]) => change(field, one)),
  ];
  fill($("difference"), rows, word("s_noChange"));
}

// ---------------------------------------------------------------- start

async function showAll() {
  showWords();
  $("language").textContent = word("other");
  $("language").lang = currentLanguage() === "zh" ? "en" : "zh-CN";
  await showScripts();
  const asked = new URLSearchParams(location.search).get("script");
  if (asked) await open(asked);
}

onSubmit($("new-form"), async (form) => {
  await open($("new-name").value);
  form.reset();
});
onSubmit($("lines-form"), save);
$("add").addEventListener("click", () => $("lines").append(lineRow()));
$("publish").addEventListener("click", guarded(async () => follow(await post(`${path()}/publish`, { revision: present.number }))));
$("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "zh" ? "en" : "zh");
  guarded(showAll)();
});
guarded(showAll)();
