// Runs FHIR clients against a server, as their users would:
//
//   node clients.mjs BASE CLIENT STEP...
//
// Each step prints one line of JSON, {"step", "error"}; error is null when
// everything was as it should be. BASE is the FHIR base.
import assert from "node:assert/strict";
import { Client } from "fhir-kit-client";
import { MedplumClient } from "@medplum/core";

const [base, name, ...steps] = process.argv.slice(2);
const system = "urn:kiln:clients:" + name;

const transaction = (id) => ({
  resourceType: "Bundle",
  type: "transaction",
  entry: [
    {
      fullUrl: "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a",
      resource: { resourceType: "Patient", active: true },
      request: { method: "POST", url: "Patient" },
    },
    {
      resource: {
        resourceType: "Observation",
        id,
        status: "final",
        code: { text: "weight" },
        subject: { reference: "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a" },
      },
      request: { method: "PUT", url: "Observation/" + id },
    },
  ],
});

const checkTransaction = (answer, observation) => {
  assert.equal(answer.type, "transaction-response");
  assert.equal(answer.entry.length, 2);
  for (const entry of answer.entry) assert.match(entry.response.status, /^201/);
  assert.match(observation.subject.reference, /^Patient\/[A-Za-z0-9.-]{1,64}$/);
};

const checkHistory = (bundle) => {
  assert.equal(bundle.type, "history");
  assert.equal(bundle.total, 2);
  assert.deepEqual(bundle.entry.map((entry) => entry.resource.meta.versionId), ["2", "1"]);
};

const checkManifest = async (manifest) => {
  const patients = manifest.output.filter((file) => file.type === "Patient");
  const count = patients.reduce((sum, file) => sum + file.count, 0);
  assert.ok(count >= 1, "no patient was exported");
  let lines = 0;
  for (const file of patients) {
    const answer = await fetch(file.url, { headers: { Accept: "application/fhir+ndjson" } });
    assert.equal(answer.status, 200);
    for (const line of (await answer.text()).trimEnd().split("\n")) {
      assert.equal(JSON.parse(line).resourceType, "Patient");
      lines++;
    }
  }
  assert.equal(lines, count);
};

// rejects expects a call to fail with an OperationOutcome of this issue type.
const rejects = async (call, outcomeOf, code) => {
  const error = await call.then(() => assert.fail("the call succeeded"), (error) => error);
  const outcome = outcomeOf(error);
  assert.equal(outcome?.resourceType, "OperationOutcome", String(error));
  assert.equal(outcome.issue[0].code, code);
};

const fhirKit = () => {
  const client = new Client({ baseUrl: base });
  const outcomeOf = (error) => error.response?.data;
  const newPatient = (body = {}) => client.create({ resourceType: "Patient", body: { resourceType: "Patient", ...body } });
  const exported = async (address) => {
    const accepted = await client.request(address, { options: { headers: { Prefer: "respond-async" } } });
    const { response } = Client.httpFor(accepted);
    assert.equal(response.status, 202);
    const status = response.headers.get("content-location");
    for (;;) {
      const manifest = await client.request(status);
      if (Client.httpFor(manifest).response.status === 200) return checkManifest(manifest);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return {
    async metadata() {
      const statement = await client.capabilityStatement();
      assert.equal(statement.fhirVersion, "4.0.1");
    },
    async create() {
      const made = await newPatient({ birthDate: "1990" });
      assert.equal(made.meta.versionId, "1");
      const { response } = Client.httpFor(made);
      assert.equal(response.status, 201);
      assert.equal(response.headers.get("location"), `${base}/Patient/${made.id}/_history/1`);
      const read = await client.read({ resourceType: "Patient", id: made.id });
      assert.equal(read.birthDate, "1990");
    },
    async update() {
      const made = await newPatient();
      const changed = await client.update({ resourceType: "Patient", id: made.id, body: { ...made, active: true }, options: { headers: { "If-Match": 'W/"1"' } } });
      assert.equal(changed.meta.versionId, "2");
      await rejects(
        client.update({ resourceType: "Patient", id: made.id, body: { ...made, active: false }, options: { headers: { "If-Match": 'W/"1"' } } }),
        outcomeOf, "conflict");
    },
    async delete() {
      const made = await newPatient();
      await client.delete({ resourceType: "Patient", id: made.id });
      await rejects(client.read({ resourceType: "Patient", id: made.id }), outcomeOf, "deleted");
      const old = await client.vread({ resourceType: "Patient", id: made.id, version: "1" });
      assert.equal(old.id, made.id);
    },
    async history() {
      const made = await newPatient();
      await client.update({ resourceType: "Patient", id: made.id, body: { ...made, active: true } });
      checkHistory(await client.history({ resourceType: "Patient", id: made.id }));
      const all = await client.history();
      assert.equal(all.type, "history");
      const second = await client.nextPage({ bundle: await client.request("_history?_count=1") });
      assert.equal(second.entry.length, 1);
    },
    async "conditional create"() {
      const body = { resourceType: "Patient", identifier: [{ system, value: "1" }] };
      const options = { headers: { "If-None-Exist": `identifier=${system}|1` } };
      const first = await client.create({ resourceType: "Patient", body, options });
      const second = await client.create({ resourceType: "Patient", body, options });
      assert.equal(Client.httpFor(second).response.status, 200);
      assert.equal(second.id, first.id);
    },
    async "search by id"() {
      const made = await newPatient();
      const found = await client.search({ resourceType: "Patient", searchParams: { _id: made.id } });
      assert.equal(found.type, "searchset");
      assert.deepEqual(found.entry.map((entry) => entry.resource.id), [made.id]);
    },
    async patch() {
      const made = await newPatient({ birthDate: "1990" });
      const changed = await client.patch({ resourceType: "Patient", id: made.id, jsonPatch: [{ op: "replace", path: "/birthDate", value: "1991" }] });
      assert.equal(changed.birthDate, "1991");
      assert.equal(changed.meta.versionId, "2");
    },
    async transaction() {
      const answer = await client.transaction({ body: transaction("fhirkit") });
      checkTransaction(answer, await client.read({ resourceType: "Observation", id: "fhirkit" }));
    },
    async "bulk export"() {
      await newPatient();
      await exported("$export?_type=Patient");
    },
    async "bulk export of patients"() {
      await newPatient();
      await exported("Patient/$export?_type=Patient");
    },
  };
};

const medplum = () => {
  const root = new URL(base);
  const client = new MedplumClient({ baseUrl: root.origin, fhirUrlPath: root.pathname.slice(1), cacheTime: 0 });
  const outcomeOf = (error) => error.outcome;
  const newPatient = (body = {}) => client.createResource({ resourceType: "Patient", ...body });
  return {
    async metadata() {
      const statement = await client.get(client.fhirUrl("metadata"));
      assert.equal(statement.fhirVersion, "4.0.1");
    },
    async create() {
      const made = await newPatient({ birthDate: "1990" });
      assert.equal(made.meta.versionId, "1");
      const read = await client.readResource("Patient", made.id);
      assert.equal(read.birthDate, "1990");
      const byReference = await client.readReference({ reference: "Patient/" + made.id });
      assert.equal(byReference.id, made.id);
    },
    async update() {
      const made = await newPatient();
      const changed = await client.updateResource({ ...made, active: true });
      assert.equal(changed.meta.versionId, "2");
      const same = await client.updateResource(changed);
      assert.equal(same.meta.versionId, "2");
      await rejects(client.updateResource({ ...made, active: false }, { headers: { "If-Match": 'W/"1"' } }), outcomeOf, "conflict");
    },
    async delete() {
      const made = await newPatient();
      await client.deleteResource("Patient", made.id);
      await rejects(client.readResource("Patient", made.id, { cache: "reload" }), outcomeOf, "deleted");
      const old = await client.readVersion("Patient", made.id, "1");
      assert.equal(old.id, made.id);
    },
    async history() {
      const made = await newPatient();
      await client.updateResource({ ...made, active: true });
      checkHistory(await client.readHistory("Patient", made.id));
    },
    async "conditional create"() {
      const body = { resourceType: "Patient", identifier: [{ system, value: "1" }] };
      const first = await client.createResourceIfNoneExist(body, `identifier=${system}|1`);
      const second = await client.createResourceIfNoneExist(body, `identifier=${system}|1`);
      assert.equal(second.id, first.id);
    },
    async "search by id"() {
      const made = await newPatient();
      const found = await client.search("Patient", { _id: made.id });
      assert.deepEqual(found.entry.map((entry) => entry.resource.id), [made.id]);
      const one = await client.searchOne("Patient", "_id=" + made.id);
      assert.equal(one.id, made.id);
    },
    async patch() {
      const made = await newPatient({ birthDate: "1990" });
      const changed = await client.patchResource("Patient", made.id, [{ op: "replace", path: "/birthDate", value: "1991" }]);
      assert.equal(changed.birthDate, "1991");
      assert.equal(changed.meta.versionId, "2");
    },
    async transaction() {
      const answer = await client.executeBatch(transaction("medplum"));
      checkTransaction(answer, await client.readResource("Observation", "medplum"));
    },
    async "bulk export"() {
      await newPatient();
      const options = { pollStatusOnAccepted: true, pollStatusPeriod: 20 };
      await checkManifest(await client.bulkExport("", "Patient", undefined, options));
    },
    async "bulk export of patients"() {
      await newPatient();
      const options = { pollStatusOnAccepted: true, pollStatusPeriod: 20 };
      await checkManifest(await client.bulkExport("Patient", "Patient", undefined, options));
    },
  };
};

const client = { "fhir-kit-client": fhirKit, "@medplum/core": medplum }[name]();
for (const step of steps) {
  let error = null;
  try {
    await client[step]();
  } catch (caught) {
    error = String(caught?.stack ?? caught);
  }
  console.log(JSON.stringify({ step, error }));
}
process.exit(0); // kept connections would hold the process
