package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// duckOnce leaves out lines that repeat an id, as Kiln and PostgreSQL do.
const duckOnce = ` qualify row_number() over (partition by id) = 1`

// duckdbSearchTables make of the table with fields what one would for these questions:
// columns, and rows in an order by which most of a table is passed over.
var duckdbSearchTables = []string{
	`create table patient as select id, doc from resources where type = 'Patient'` + duckOnce + ` order by id`,
	`create table patient_family as select distinct family, id as patient
	 from (select strip_accents(lower(unnest(json_extract_string(doc, '$.name[*].family')))) as family, id from patient) order by family`,
	`create table observation as select row_number() over (order by date) as n, * from (
	 select id, status, regexp_extract(subject, '^Patient/(.*)', 1) as patient, date::timestamptz as date,
	 doc->>'$.valueQuantity.system' as unit_system, unit, value::decimal(38, 10) as value, doc from resources where type = 'Observation'` + duckOnce + `) order by date`,
	`create table observation_code as select n, coding.system as system, coding.code as code, patient, date
	 from (select n, patient, date, unnest(from_json(json_extract(doc, '$.code.coding'), '[{"system": "VARCHAR", "code": "VARCHAR"}]')) as coding from observation)
	 where coding.system is not null and coding.code is not null order by system, code, date`,
	`create index observation_n on observation (n)`,
	`create index patient_id on patient (id)`,
	`drop table resources`,
	`checkpoint`,
}

// Parts of DuckDB's statements.
const (
	duckCode     = ` from observation_code c where system = {system} and code = {code}`
	duckDated    = ` and date >= {from}::timestamptz and date < {to}::timestamptz`
	duckInRange  = ` from observation where date >= {from}::timestamptz and date < {to}::timestamptz`
	duckPatient  = ` and patient = {patient}`
	duckLarger   = ` from observation where unit_system = {unit-system} and unit = {unit} and value > {value}::decimal(38, 10)`
	duckFamilies = ` (select patient from patient_family where family >= {family} and family < {family-end})`
	duckHas      = ` from patient where id in (select patient` + duckCode + `)`
)

// pageOfDuck finds the rows first and reads 50 resources.
func pageOfDuck(from string) string {
	return `select false, doc from observation where n in (select n` + from + ` limit 50)`
}

// duckdbStatements ask the questions of these names.
var duckdbStatements = map[string]string{
	"status of nearly all: count":          `select count(*) from observation where status = 'final'`,
	"most frequent code: count":            `select count(*) from observation_code where system = {frequent-system} and code = {frequent-code}`,
	"code: count":                          `select count(*)` + duckCode,
	"code: page":                           pageOfDuck(duckCode),
	"code and date range: count":           `select count(*)` + duckCode + duckDated,
	"code and date range: page":            pageOfDuck(duckCode + duckDated),
	"date range: count":                    `select count(*)` + duckInRange,
	"date range: page":                     `select false, doc` + duckInRange + ` limit 50`,
	"patient and code: count":              `select count(*)` + duckCode + duckPatient,
	"patient and code: page":               pageOfDuck(duckCode + duckPatient),
	"value-quantity: count":                `select count(*)` + duckLarger,
	"value-quantity: page":                 `select false, doc` + duckLarger + ` limit 50`,
	"string prefix: count":                 `select count(*) from patient where id in` + duckFamilies,
	"string prefix: page":                  `select false, doc from patient where id in` + duckFamilies + ` limit 50`,
	"chained patient name: count":          `select count(*) from observation where patient in` + duckFamilies,
	"chained patient name: page":           `select false, doc from observation where patient in` + duckFamilies + ` limit 50`,
	"chained patient name and code: count": `select count(*)` + duckCode + ` and patient in` + duckFamilies,
	"chained patient name and code: page":  pageOfDuck(duckCode + ` and patient in` + duckFamilies),
	"_has: count":                          `select count(*)` + duckHas,
	"_has: page":                           `select false, doc` + duckHas + ` limit 50`,
	"code by falling date: page":           `select false, doc from observation where n in (select n` + duckCode + ` order by date desc limit 50) order by date desc`,
	"all by falling date: page":            `select false, doc from observation order by date desc limit 50`,
}

// startDuckDB fills DuckDB.
func (m *searching) startDuckDB(ctx context.Context, set *dataSet) (err error) {
	start := time.Now()
	if m.duck, err = startDuckDB(ctx, filepath.Join(m.bench.dir, "duckdb.db")); err != nil {
		return err
	}
	statements := append([]string{duckdbFieldsTable("resources", sqlFiles(set.files))}, duckdbSearchTables...)
	for _, sql := range statements {
		if _, err := m.duck.run(sql); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "filled DuckDB in %.1f s\n", time.Since(start).Seconds())
	return nil
}

// askDuckDB asks the same, where there is a statement, and adds what was seen to way.
func (m *searching) askDuckDB(q *question, way *measured, values asked, found answer, counts bool) error {
	sql := duckdbStatements[q.name]
	if m.duck == nil || sql == "" {
		return nil
	}
	text, arguments := (&statement{sql: sql}).prepared(values)
	answered, err := m.duck.run(text, arguments...)
	if err != nil {
		return err
	}
	other, err := q.duckdbAnswer(answered)
	if err != nil {
		return err
	}
	if !found.equal(other) {
		return fmt.Errorf("answers differ for %v: kiln %v, DuckDB %v", values, found, other)
	}
	if counts {
		way.took = append(way.took, answered.took())
		way.nanoseconds += int64(answered.Processor * 1e9)
	}
	return nil
}

// duckdbAnswer takes what is compared out of the rows.
func (q *question) duckdbAnswer(answered *duckdbAnswer) (a answer, err error) {
	if strings.HasSuffix(q.address, asCount) {
		a.count, err = answered.number()
		return a, err
	}
	for _, row := range answered.Rows {
		doc, isText := row[len(row)-1].(string)
		if !isText {
			return a, fmt.Errorf("cannot read a resource out of %.200v", row)
		}
		if a.count++; q.dated {
			if a.dates, err = appendDates(a.dates, []byte(doc)); err != nil {
				return a, err
			}
		}
	}
	return a, nil
}

// duckFigures tells what was seen of DuckDB, beside kiln's median in ms.
func (m *searching) duckFigures(q *question, duck *measured, kiln float64) []figure {
	if len(duck.took) == 0 {
		return nil
	}
	slices.Sort(duck.took)
	middle := millis(percentile(duck.took, 50))
	m.duckRatios = append(m.duckRatios, figure{q.name, middle / kiln, "times"})
	return []figure{
		{duck.name + ": median", middle, "ms"},
		{duck.name + ": 99 of 100 below", millis(percentile(duck.took, 99)), "ms"},
		{duck.name + ": processor time", float64(duck.nanoseconds) / float64(len(duck.took)) / 1e6, "ms a request"},
	}
}
