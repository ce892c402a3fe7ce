// A SMART Backend Services client, as its specification has it:
//
//   node backend.mjs keys ALG          prints {"jwks", "jwk"}: the public set and the private key
//   node backend.mjs export BASE       reads {"jwk", "alg", "client"} from stdin, gets a token, exports
//                                      Patients and prints {"token", "assertion", "refused", "scope", "lines"}
import assert from "node:assert/strict";
import { text } from "node:stream/consumers";
import { SignJWT, exportJWK, generateKeyPair, importJWK } from "jose";

const keys = async (alg) => {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const kid = "key-of-" + alg;
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid, alg, use: "sig" }] };
  return { jwks, jwk: { ...(await exportJWK(privateKey)), kid } };
};

const token = async (endpoint, { jwk, alg, client }) => {
  const assertion = await new SignJWT({})
    .setProtectedHeader({ alg, kid: jwk.kid, typ: "JWT" })
    .setIssuer(client).setSubject(client).setAudience(endpoint)
    .setExpirationTime("4m").setJti(crypto.randomUUID())
    .sign(await importJWK(jwk, alg));
  const form = new URLSearchParams({
    grant_type: "client_credentials",
    scope: "system/*.read",
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    client_assertion: assertion,
  });
  const answer = await fetch(endpoint, { method: "POST", body: form });
  const granted = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(granted));
  assert.equal(answer.headers.get("cache-control"), "no-store");
  assert.equal(granted.token_type, "bearer");
  const again = await fetch(endpoint, { method: "POST", body: form });
  assert.equal((await again.json()).error, "invalid_client");
  return { assertion, granted };
};

const exported = async (base, headers) => {
  const refused = await fetch(base + "/Patient/$export", { headers: { Accept: "application/fhir+json", Prefer: "respond-async" } });
  assert.equal((await refused.json()).resourceType, "OperationOutcome");
  const accepted = await fetch(base + "/Patient/$export?_type=Patient", { headers: { ...headers, Accept: "application/fhir+json", Prefer: "respond-async" } });
  assert.equal(accepted.status, 202, await accepted.text());
  const job = accepted.headers.get("content-location");
  let status = await fetch(job, { headers });
  for (; status.status === 202; status = await fetch(job, { headers })) await status.text();
  assert.equal(status.status, 200);
  const manifest = await status.json();
  assert.equal(manifest.requiresAccessToken, true);
  const lines = [];
  for (const { url } of manifest.output) {
    assert.equal((await fetch(url)).status, 401);
    const file = await fetch(url, { headers });
    assert.equal(file.status, 200);
    lines.push(...(await file.text()).trimEnd().split("\n"));
  }
  return { refused: refused.status, lines: lines.map((line) => JSON.parse(line).id) };
};

const [command, argument] = process.argv.slice(2);
if (command === "keys") {
  console.log(JSON.stringify(await keys(argument)));
} else {
  const input = JSON.parse(await text(process.stdin));
  const smart = await (await fetch(argument + "/.well-known/smart-configuration")).json();
  assert.ok(smart.capabilities.includes("client-confidential-asymmetric"));
  assert.ok(smart.token_endpoint_auth_signing_alg_values_supported.includes(input.alg));
  const { assertion, granted } = await token(smart.token_endpoint, input);
  const result = await exported(argument, { Authorization: "Bearer " + granted.access_token });
  console.log(JSON.stringify({ token: granted.access_token, assertion, scope: granted.scope, ...result }));
}
