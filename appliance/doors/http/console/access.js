// People, tokens, and what tenants demand of consents.
import { call, get, post, remove } from "./api.js";
import { $, danger, element, fill, onSubmit, small, tag, what } from "./builders.js";
import { purposeBoxes, purposeWords } from "./consents.js";
import { word } from "./words.js";

const ROLES = ["owner", "tenant-admin", "voice-steward", "operator", "developer", "auditor", "device"];
const options = (names) => names.map((name) => element("option", { value: name }, word(`r_role_${name}`)));

// ---------------------------------------------------------------- people

function personRow(person) {
  const end = async () => {
    await remove(`/v1/people/${person.id}`);
    await showPeople();
  };
  const isOver = Boolean(person.disabled_at);
  return element("li", {}, what(person.name || person.login, `${person.login} · ${word(`r_role_${person.role}`)}`), isOver ? tag(word("r_shutOut"), "bad") : danger("r_shut", end));
}

export async function showPeople() {
  fill($("people"), (await get("/v1/people")).items.map(personRow), word("r_noPeople"));
}

async function addPerson(form) {
  await post("/v1/people", { login: $("person-login").value, name: $("person-name").value, role: $("person-role").value, password: $("person-password").value });
  form.reset();
  await showPeople();
}

// ---------------------------------------------------------------- tokens

function tokenRow(token) {
  const end = async () => {
    await remove(`/v1/tokens/${token.id}`);
    await showTokens();
  };
  const used = token.last_used_at ? word("r_lastUsed", { on: token.last_used_at.slice(0, 10) }) : word("r_neverUsed");
  const until = token.expires_at ? word("r_until", { on: token.expires_at.slice(0, 10) }) : "";
  const detail = [word(`r_role_${token.role}`), ...token.voices, ...token.doors, used, until].filter(Boolean).join(" · ");
  return element("li", {}, what(token.title || token.id, detail), token.revoked_at ? tag(word("r_over"), "bad") : danger("r_revoke", end));
}

export async function showTokens() {
  fill($("tokens"), (await get("/v1/tokens?limit=200")).items.map(tokenRow), word("r_noTokens"));
}

async function issue(form) {
  const days = Number($("token-days").value);
  const issued = await post("/v1/tokens", { title: $("token-title-field").value, role: $("token-role").value, ...(days && { expires_in_s: days * 86400 }) });
  form.reset();
  $("token-secret").textContent = issued.token;
  $("token-shown").hidden = false;
  await showTokens();
}

// ---------------------------------------------------------------- tenants

function tenantRow(tenant) {
  const rule = tenant.in_force;
  const told = [
    rule.spoken_for.length ? word("r_spokenFor", { purposes: purposeWords(rule.spoken_for) }) : "",
    rule.excluded.length ? word("r_excludes", { purposes: purposeWords(rule.excluded) }) : "",
    rule.longest_days ? word("r_longest", { days: rule.longest_days }) : "",
    rule.by_person ? word("r_byPersonTold") : "",
  ].filter(Boolean);
  return element("li", {}, what(tenant.title, told.join(" · ") || word("r_noRules")), tenant.disabled_at ? tag(word("r_shutOut"), "bad") : null, small("r_change", () => edit(tenant)));
}

function edit(tenant) {
  $("policy-tenant").textContent = tenant.title;
  $("policy-form").dataset.tenant = tenant.id;
  $("policy-spoken").replaceChildren(...purposeBoxes("spoken_for", tenant.policy.spoken_for));
  $("policy-excluded").replaceChildren(...purposeBoxes("excluded", tenant.policy.excluded));
  $("policy-days").value = tenant.policy.longest_days ?? "";
  $("policy-person").checked = tenant.policy.by_person;
  $("policy-form").hidden = false;
}

export async function showTenants() {
  fill($("tenants"), (await get("/v1/tenants")).items.map(tenantRow));
}

async function rule(form) {
  const chosen = (name) => [...form.querySelectorAll(`input[name=${name}]:checked`)].map((box) => box.value);
  const policy = { spoken_for: chosen("spoken_for"), excluded: chosen("excluded"), longest_days: Number($("policy-days").value) || null, by_person: $("policy-person").checked };
  await call(`/v1/tenants/${form.dataset.tenant}`, { method: "PATCH", json: { policy } });
  form.hidden = true;
  await showTenants();
}

export function beginAccess() {
  for (const id of ["person-role", "token-role"]) $(id).replaceChildren(...options(ROLES));
  $("person-role").value = "operator";
  $("token-role").value = "device";
  onSubmit($("person-form"), addPerson);
  onSubmit($("token-issue"), issue);
  onSubmit($("policy-form"), rule);
}
