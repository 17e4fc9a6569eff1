// Renders /openapi.json: nothing is fetched from anywhere else.

const main = document.getElementById("main");
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

const answer = await fetch("/openapi.json");
const api = await answer.json();
const resolve = (schema) => (schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema) ?? {};
const nameOf = (schema) => schema.$ref?.split("/").pop() ?? "";

function kind(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" | ");
  if (schema.type === "array") return `${kind(schema.items ?? {})}[]`;
  const bounds = [["minimum", "≥"], ["maximum", "≤"], ["exclusiveMinimum", ">"], ["maxLength", "≤ characters:"]]
    .filter(([name]) => schema[name] !== undefined).map(([name, sign]) => `${sign} ${schema[name]}`);
  const fallback = schema.default !== undefined && schema.default !== null ? `= ${JSON.stringify(schema.default)}` : "";
  return [schema.type ?? "any", ...bounds, fallback].filter(Boolean).join(" ");
}

function table(rows) {
  const body = make("tbody");
  for (const [name, schema, isRequired, note] of rows) {
    body.append(make("tr", {}, make("td", { class: isRequired ? "required" : "" }, name), make("td", {}, kind(schema)), make("td", {}, (note || schema.description || "").replaceAll("`", ""))));
  }
  return make("table", {}, body);
}

function fields(schema) {
  const whole = resolve(schema);
  const required = new Set(whole.required ?? []);
  return table(Object.entries(whole.properties ?? {}).map(([name, field]) => [name, field, required.has(name)]));
}

function example(method, path, operation) {
  const url = `${location.origin}${path}`;
  const parts = ["curl"];
  if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  if (!operation.security) parts.push('-H "Authorization: Bearer $TOKEN"');
  const content = operation.requestBody?.content ?? {};
  if (content["application/json"]) {
    const whole = resolve(content["application/json"].schema);
    const body = Object.fromEntries((whole.required ?? []).map((name) => [name, sample(whole.properties[name])]));
    parts.push(`--json '${JSON.stringify(body)}'`);
  } else if (content["multipart/form-data"]) parts.push("-F file=@recording.wav");
  const query = (operation.parameters ?? []).filter((parameter) => parameter.in === "query" && parameter.required);
  const tail = query.length ? `?${query.map((parameter) => `${parameter.name}=…`).join("&")}` : "";
  return [...parts, `"${url}${tail}"`].join(" ");
}

function sample(field) {
  const schema = resolve(field);
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.type === "array") return [sample(schema.items ?? {})];
  if (schema.type === "integer" || schema.type === "number") return schema.minimum ?? 1;
  return schema.type === "boolean" ? true : "…";
}

function operationNode(path, method, operation) {
  const inside = make("div", { class: "inside" });
  if (operation.parameters) inside.append(make("h3", {}, "Parameters"), table(operation.parameters.map((one) => [one.name, one.schema, one.required, one.description])));
  for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    inside.append(make("h3", {}, `Body · ${type}`));
    if (resolve(schema).properties) inside.append(fields(schema));
  }
  inside.append(make("h3", {}, "Answers"));
  const rows = Object.entries(operation.responses).map(([status, response]) => {
    const [type, media] = Object.entries(response.content ?? {})[0] ?? ["", {}];
    return make("tr", {}, make("td", {}, status), make("td", {}, [type, nameOf(media.schema ?? {})].filter(Boolean).join(" · ")), make("td", {}, response.description));
  });
  inside.append(make("table", {}, make("tbody", {}, ...rows)), make("h3", {}, "Try it"), make("pre", {}, example(method, path, operation)));
  const summary = make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), make("code", {}, path), make("span", { class: "what" }, operation.summary));
  return make("details", { class: "operation", id: operation.operationId }, summary, inside);
}

document.getElementById("version").textContent = api.info.version;
main.replaceChildren(make("p", { class: "lead" }, api.info.description.replaceAll("`", "")));
for (const { name } of api.tags) {
  document.getElementById("tags").append(make("a", { href: `#${name}` }, name));
  main.append(make("h2", { id: name }, name));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (operation.tags[0] === name) main.append(operationNode(path, method, operation));
    }
  }
}
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
