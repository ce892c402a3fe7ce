package main

// question is a search in FHIR's words, and the same in SQL. Texts in braces
// are the names of drawn values (asked).
type question struct {
	name       string
	address    string // below the base
	dated      bool   // the answer's order counts: its dates are compared too
	statements []statement
}

// statement is one way to ask PostgreSQL. A count is a row with a number; a page
// is a row for each resource, with whether it was brought along and the resource.
type statement struct {
	name string
	sql  string
}

// Ways to ask PostgreSQL.
const (
	byTree = "b-tree"
	byGIN  = "GIN"
)

// The parts of addresses that say what is asked for.
const (
	asCount = "&_summary=count"
	asPage  = "&_count=50&_total=none"
)

// searchTables makes tables of the rows that were copied to "resources", as one
// would for these questions alone: the values that are asked for in columns
// beside the resource, with a table of their own where there may be several, and
// b-tree indexes that answer the counts by themselves; and a GIN index on the
// resource.
var searchTables = []string{
	`create table patient (id text primary key, doc jsonb not null)`,
	`insert into patient select doc->>'id', doc from resources where doc->>'resourceType' = 'Patient' on conflict do nothing`,
	`create table patient_family (family text, patient text, primary key (family, patient))`,
	`insert into patient_family
	 select regexp_replace(normalize(lower(name->>'family'), NFD), '[\u0300-\u036f]', '', 'g'), id
	 from patient, jsonb_array_elements(doc->'name') name where name ? 'family' on conflict do nothing`,
	`create table observation (n bigint generated always as identity primary key, id text unique, status text, patient text,
	 date timestamptz, unit_system text, unit text, value numeric, doc jsonb not null)`,
	`insert into observation (id, status, patient, date, unit_system, unit, value, doc)
	 select doc->>'id', doc->>'status', substring(doc#>>'{subject,reference}' from '^Patient/(.*)'),
	 (doc->>'effectiveDateTime')::timestamptz,
	 doc#>>'{valueQuantity,system}', doc#>>'{valueQuantity,code}', (doc#>>'{valueQuantity,value}')::numeric, doc
	 from resources where doc->>'resourceType' = 'Observation' on conflict do nothing`,
	`create table observation_code (n bigint, system text, code text, patient text, date timestamptz, primary key (n, system, code))`,
	`insert into observation_code
	 select n, coding->>'system', coding->>'code', patient, date
	 from observation, jsonb_array_elements(doc#>'{code,coding}') coding where coding ? 'code' and coding ? 'system' on conflict do nothing`,
	`create index on observation (status)`,
	`create index on observation (date, n)`,
	`create index on observation (patient, n)`,
	`create index on observation (unit_system, unit, value)`,
	`create index on observation_code (system, code, date, n)`,
	`create index on observation_code (system, code, patient, n)`,
	`create index on observation using gin (doc jsonb_path_ops)`,
	`vacuum (analyze, freeze) patient`, `vacuum (analyze, freeze) patient_family`,
	`vacuum (analyze, freeze) observation`, `vacuum (analyze, freeze) observation_code`,
	`checkpoint`,
}

// Parts of statements.
const (
	countOfCode = `select count(*) from observation_code where system = {system} and code = {code}`
	pageOfCode  = `select false, o.doc from observation_code c join observation o using (n) where c.system = {system} and c.code = {code}`
	fiftyRows   = ` limit 50`
	dated       = ` and c.date >= {from}::timestamptz and c.date < {to}::timestamptz`
	datedRows   = ` where date >= {from}::timestamptz and date < {to}::timestamptz`
	ofPatient   = ` and c.patient = {patient}`
	larger      = ` from observation where unit_system = {unit-system} and unit = {unit} and value > {value}::numeric`
	families    = ` (select patient from patient_family where family >= {family} and family < {family-end})`
	withCode    = ` doc @> {code-doc}::jsonb`
	hasCode     = ` from patient p where exists (select from observation_code c where c.patient = p.id and c.system = {system} and c.code = {code})`
	inSet       = ` from patient p where id in (select patient from observation_code where system = {system} and code = {code})`
)

// searchQuestions are what bench search asks, in this order.
var searchQuestions = []question{
	{name: "status of nearly all: count", address: "Observation?status=final" + asCount, statements: []statement{
		{byTree, `select count(*) from observation where status = 'final'`}}},
	{name: "most frequent code: count", address: "Observation?code={frequent-system}%7C{frequent-code}" + asCount, statements: []statement{
		{byTree, `select count(*) from observation_code where system = {frequent-system} and code = {frequent-code}`}}},
	{name: "code: count", address: "Observation?code={system}%7C{code}" + asCount, statements: []statement{
		{byTree, countOfCode}, {byGIN, `select count(*) from observation where` + withCode}}},
	{name: "code: page", address: "Observation?code={system}%7C{code}" + asPage, statements: []statement{
		{byTree, pageOfCode + fiftyRows}, {byGIN, `select false, doc from observation where` + withCode + fiftyRows}}},
	{name: "code and date range: count", address: "Observation?code={system}%7C{code}&date=ge{from}&date=lt{to}" + asCount, statements: []statement{
		{byTree, `select count(*) from observation_code c where system = {system} and code = {code}` + dated}}},
	{name: "code and date range: page", address: "Observation?code={system}%7C{code}&date=ge{from}&date=lt{to}" + asPage, statements: []statement{
		{byTree, pageOfCode + dated + fiftyRows}}},
	{name: "date range: count", address: "Observation?date=ge{from}&date=lt{to}" + asCount, statements: []statement{
		{byTree, `select count(*) from observation` + datedRows}}},
	{name: "date range: page", address: "Observation?date=ge{from}&date=lt{to}" + asPage, statements: []statement{
		{byTree, `select false, doc from observation` + datedRows + fiftyRows}}},
	{name: "patient and code: count", address: "Observation?patient={patient}&code={system}%7C{code}" + asCount, statements: []statement{
		{byTree, `select count(*) from observation_code c where system = {system} and code = {code}` + ofPatient},
		{byGIN, `select count(*) from observation where doc @> {patient-code-doc}::jsonb`}}},
	{name: "patient and code: page", address: "Observation?patient={patient}&code={system}%7C{code}" + asPage, statements: []statement{
		{byTree, pageOfCode + ofPatient + fiftyRows},
		{byGIN, `select false, doc from observation where doc @> {patient-code-doc}::jsonb` + fiftyRows}}},
	{name: "value-quantity: count", address: "Observation?value-quantity=gt{value}%7C{unit-system}%7C{unit}" + asCount, statements: []statement{
		{byTree, `select count(*)` + larger}}},
	{name: "value-quantity: page", address: "Observation?value-quantity=gt{value}%7C{unit-system}%7C{unit}" + asPage, statements: []statement{
		{byTree, `select false, doc` + larger + fiftyRows}}},
	{name: "string prefix: count", address: "Patient?family={family}" + asCount, statements: []statement{
		{byTree, `select count(*) from patient where id in` + families}}},
	{name: "string prefix: page", address: "Patient?family={family}" + asPage, statements: []statement{
		{byTree, `select false, doc from patient where id in` + families + fiftyRows}}},
	{name: "chained patient name: count", address: "Observation?patient.family={family}" + asCount, statements: []statement{
		{byTree, `select count(*) from observation where patient in` + families}}},
	{name: "chained patient name: page", address: "Observation?patient.family={family}" + asPage, statements: []statement{
		{byTree, `select false, doc from observation where patient in` + families + fiftyRows}}},
	{name: "chained patient name and code: count", address: "Observation?patient.family={family}&code={system}%7C{code}" + asCount, statements: []statement{
		{byTree, countOfCode + ` and patient in` + families}}},
	{name: "chained patient name and code: page", address: "Observation?patient.family={family}&code={system}%7C{code}" + asPage, statements: []statement{
		{byTree, pageOfCode + ` and c.patient in` + families + fiftyRows}}},
	{name: "_has: count", address: "Patient?_has:Observation:patient:code={system}%7C{code}" + asCount, statements: []statement{
		{byTree + ", exists", `select count(*)` + hasCode}, {byTree + ", in", `select count(*)` + inSet}}},
	{name: "_has: page", address: "Patient?_has:Observation:patient:code={system}%7C{code}" + asPage, statements: []statement{
		{byTree + ", exists", `select false, doc` + hasCode + fiftyRows}, {byTree + ", in", `select false, doc` + inSet + fiftyRows}}},
	{name: "code with _include of the patients: page", address: "Observation?code={system}%7C{code}&_include=Observation:patient" + asPage, statements: []statement{
		{byTree, `with page as materialized (select o.doc, o.patient from observation_code c join observation o using (n)
		 where c.system = {system} and c.code = {code} limit 50)
		 select false, doc from page union all select true, doc from patient where id in (select patient from page)`}}},
	{name: "code by falling date: page", address: "Observation?code={system}%7C{code}&_sort=-date" + asPage, dated: true, statements: []statement{
		{byTree, pageOfCode + ` order by c.date desc` + fiftyRows}}},
	{name: "all by falling date: page", address: "Observation?_sort=-date" + asPage, dated: true, statements: []statement{
		{byTree, `select false, doc from observation order by date desc` + fiftyRows}}},
}
