// The page of /docs: reads /openapi.json, shows each call, and sends it as the user who is logged in here.
// What comes from the document or an answer is only ever put in as text.
"use strict";

const METHODS = ["get", "post", "put", "delete", "head"];
let token = null;

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// What a body may look like, made of its schema.
function example(schema) {
  if (!schema || !schema.properties) return null;
  const body = {};
  for (const [name, of] of Object.entries(schema.properties)) {
    if (!(schema.required || []).includes(name)) continue;
    body[name] = name === "sql" ? "SELECT CURRENT_USER" : of.type === "integer" ? 0 : "";
  }
  return JSON.stringify(body, null, 2);
}

function field(form, name, required) {
  const label = element("label", name + " ", form);
  const input = element("input", null, label);
  input.required = required;
  return input;
}

async function send(method, path, call, inputs, body, shown) {
  let url = path;
  const query = new URLSearchParams();
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value) query.set(parameter.name, input.value);
  }
  if (query.size) url += "?" + query;
  const headers = {};
  if (token && call.security) headers.Authorization = "Bearer " + token;
  if (body) headers["Content-Type"] = "application/json";
  shown.textContent = "…";
  try {
    const answer = await fetch(url, { method, headers, body: body ? body.value : undefined });
    let text = await answer.text();
    try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* no JSON: as it is */ }
    shown.textContent = `${answer.status} · X-Request-ID ${answer.headers.get("X-Request-ID")}\n\n${text}`;
  } catch (error) {
    shown.textContent = String(error);
  }
}

function show(path, method, item) {
  const call = item[method];
  const box = element("details", null, document.getElementById("calls"));
  const head = element("summary", null, box);
  element("b", method.toUpperCase(), head);
  element("code", path, head);
  element("span", " " + call.summary, head);
  if (call.description) element("p", call.description, box);
  const form = element("form", null, box);
  const parameters = [...(item.parameters || []), ...(call.parameters || [])];
  const inputs = parameters.map((parameter) => [parameter, field(form, parameter.name, parameter.required)]);
  let body = null;
  if (call.requestBody) {
    body = element("textarea", null, form);
    body.value = example(call.requestBody.content["application/json"].schema) || "";
  }
  const streams = path === "/v1/ws" || path === "/v1/live";
  if (streams) return;
  element("button", "Send", form);
  const shown = element("pre", null, box);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(method.toUpperCase(), path, call, inputs, body, shown);
  });
}

document.getElementById("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const body = JSON.stringify({ user: form.user.value, password: form.password.value });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/v1/api/auth/login", { method: "POST", headers, body });
  const said = await answer.json();
  token = said.access_token || null;
  form.querySelector("output").textContent = token ? `logged in as ${said.user.id} (${said.user.role})` : said.message;
  form.password.value = "";
});

fetch("/openapi.json").then((answer) => answer.json()).then((spec) => {
  document.getElementById("version").textContent = spec.info.version;
  document.getElementById("about").textContent = spec.info.description;
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const method of METHODS) if (item[method]) show(path, method, item);
  }
});
