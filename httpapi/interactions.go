package httpapi

import (
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/httpapi/access"
)

// method is an HTTP method that some address knows.
type method uint8

const (
	methodOther method = iota
	methodGet
	methodHead
	methodPost
	methodPut
	methodPatch
	methodDelete
	methodOptions
	methodCount
)

var methodNames = [methodCount]string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

func parseMethod(name []byte) method {
	for m := methodGet; m < methodCount; m++ {
		if string(name) == methodNames[m] {
			return m
		}
	}
	return methodOther
}

// level says where the CapabilityStatement lists an interaction.
type level uint8

const (
	levelNone level = iota
	levelType
	levelSystem
)

// interaction is one row of the table of what the server answers.
type interaction struct {
	place  place
	method method // HEAD follows GET when safe is set
	name   string // in metrics and logs
	// needs is what it needs of the client; a row has to say so.
	needs access.Needs
	run   func(*exchange) error
	// prepare makes the change of a write; what it holds lasts as long as the
	// exchange and the request.
	prepare func(*exchange) (engine.Change, error)
	// conditional: the address has criteria that select the resource.
	conditional bool
	// safe: GET reads only, so HEAD is served too.
	safe bool
	// json: the answer is FHIR JSON, so Accept and _format must allow it.
	json bool
	// params are the query parameters that run understands, besides _format and
	// _pretty; a "*" leaves checking them to run.
	params []string
	// level and code go into the CapabilityStatement.
	level     level
	code      string
	also      string // a second code
	operation string // the definition's address, for operations
	only      string // the one type that has it; "": all
}

// Definitions of the operations, for the CapabilityStatement.
const (
	definitionExport        = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"
	definitionBulkData      = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
	definitionPatientExport = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export"
	definitionBulkPublish   = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/bulk-publish"
	definitionGroupExport   = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export"
	definitionImport        = "OperationDefinition/import"
	definitionPurge         = "OperationDefinition/purge-history"
	definitionStatus        = "OperationDefinition/search-parameter-status"

	definitionValidate   = "http://hl7.org/fhir/OperationDefinition/Resource-validate"
	definitionEverything = "http://hl7.org/fhir/OperationDefinition/Patient-everything"
)

// interactions lists what is served, and what is known but refused.
func interactions() []interaction {
	const get, post, put, del = methodGet, methodPost, methodPut, methodDelete
	history := []string{"_count", "_since", "_before", "_at", "_list", "_summary", "_elements", "_sort", "ct"}
	part := []string{"_summary", "_elements"}
	search := []string{"*"} // package query knows them
	return []interaction{
		{place: placeHealth, method: get, name: "healthz", needs: access.Public, run: (*exchange).health, safe: true, params: []string{"*"}},
		{place: placeReady, method: get, name: "readyz", needs: access.Public, run: (*exchange).ready, safe: true, params: []string{"*"}},
		{place: placeMetrics, method: get, name: "metrics", needs: access.AnyRole, run: (*exchange).metrics, safe: true, params: []string{"*"}},
		{place: placeMetadata, method: get, name: "capabilities", needs: access.Public, run: (*exchange).capabilities, safe: true, json: true, params: []string{"mode"}},
		{place: placeSMART, method: get, name: "smart-configuration", needs: access.Public, run: (*exchange).smartConfiguration, safe: true, params: []string{"*"}},
		{place: placeToken, method: post, name: "token", needs: access.Public, run: (*exchange).token, params: []string{"*"}},
		{place: placeSystemHistory, method: get, name: "history-system", needs: access.Search, run: (*exchange).history, safe: true, json: true, params: history, level: levelSystem, code: "history-system"},
		{place: placeTypeHistory, method: get, name: "history-type", needs: access.Search, run: (*exchange).history, safe: true, json: true, params: history, level: levelType, code: "history-type"},
		{place: placeInstanceHistory, method: get, name: "history-instance", needs: access.Read, run: (*exchange).history, safe: true, json: true, params: history, level: levelType, code: "history-instance"},

		{place: placeInstance, method: get, name: "read", needs: access.Read, run: (*exchange).read, safe: true, json: true, params: part, level: levelType, code: "read"},
		{place: placeVersion, method: get, name: "vread", needs: access.Read, run: (*exchange).vread, safe: true, json: true, params: part, level: levelType, code: "vread"},
		{place: placeType, method: post, name: "create", needs: access.Create, run: (*exchange).write, prepare: (*exchange).create, json: true, level: levelType, code: "create"},
		{place: placeInstance, method: put, name: "update", needs: access.Update, run: (*exchange).write, prepare: (*exchange).update, json: true, level: levelType, code: "update"},
		{place: placeInstance, method: del, name: "delete", needs: access.Delete, run: (*exchange).remove, prepare: (*exchange).delete, params: hardDeleteNames[:], level: levelType, code: "delete"},
		{place: placeInstance, method: methodPatch, name: "patch", needs: access.Update, run: (*exchange).write, prepare: (*exchange).patch, json: true, level: levelType, code: "patch"},

		{place: placeBase, method: post, name: "bundle", needs: access.Known, run: (*exchange).bundle, json: true, level: levelSystem, code: "transaction", also: "batch"},

		{place: placeImport, method: post, name: "import", needs: access.Import, run: (*exchange).importStart, level: levelSystem, code: "import", operation: definitionImport},
		{place: placeImportJob, method: get, name: "import-status", needs: access.Import, run: (*exchange).importStatus, safe: true, params: []string{"_details"}},
		{place: placeImportJob, method: del, name: "import-cancel", needs: access.Import, run: (*exchange).importCancel},
		{place: placeImportFile, method: get, name: "import-file", needs: access.Import, run: (*exchange).importFile, safe: true},
		{place: placeExport, method: get, name: "export", needs: access.Export, run: (*exchange).exportStart, params: []string{"*"}, level: levelSystem, code: "export", operation: definitionExport},
		{place: placeExport, method: post, name: "export", needs: access.Export, run: (*exchange).exportStart, params: []string{"*"}},
		{place: placeTypeExport, method: get, name: "export-patient", needs: access.Export, run: (*exchange).exportStart, params: []string{"*"}, level: levelType, code: "export", also: "patient-export", operation: definitionPatientExport, only: "Patient"},
		{place: placeTypeExport, method: post, name: "export-patient", needs: access.Export, run: (*exchange).exportStart, params: []string{"*"}},
		{place: placeGroupExport, method: get, name: "export-group", needs: access.Export, run: (*exchange).exportStart, params: []string{"*"}, level: levelType, code: "export", also: "group-export", operation: definitionGroupExport, only: "Group"},
		{place: placeGroupExport, method: post, name: "export-group", needs: access.Export, run: (*exchange).exportStart, params: []string{"*"}},
		{place: placeExportJob, method: get, name: "export-status", needs: access.Export, run: (*exchange).exportStatus, safe: true, params: []string{pageParameter}},
		{place: placeExportJob, method: del, name: "export-delete", needs: access.Export, run: (*exchange).exportDelete},
		{place: placeBulkPublish, method: get, name: "bulk-publish", needs: access.Export, run: (*exchange).bulkPublish, safe: true, level: levelSystem, code: "bulk-publish", operation: definitionBulkPublish},
		{place: placeExportFile, method: get, name: "export-file", needs: access.Export, run: (*exchange).exportFile, safe: true},

		{place: placeBackup, method: post, name: "backup", needs: access.Administer, run: (*exchange).backupStart},
		{place: placeBackupJob, method: get, name: "backup-status", needs: access.Administer, run: (*exchange).backupStatus, safe: true},
		{place: placeBackupJob, method: del, name: "backup-cancel", needs: access.Administer, run: (*exchange).backupCancel},

		{place: placeTypeValidate, method: post, name: "validate", needs: access.Read, run: (*exchange).validate, json: true, params: []string{"mode", "profile"}, level: levelType, code: "validate", operation: definitionValidate},
		{place: placeInstanceValidate, method: post, name: "validate", needs: access.Read, run: (*exchange).validate, json: true, params: []string{"mode", "profile"}},
		{place: placeInstanceValidate, method: get, name: "validate", needs: access.Read, run: (*exchange).validate, safe: true, json: true, params: []string{"mode", "profile"}},

		{place: placeInstancePurge, method: del, name: "purge-history", needs: access.Administer, run: (*exchange).purgeHistory, level: levelType, code: "purge-history", operation: definitionPurge},

		{place: placeParameterStatus, method: get, name: "parameter-status", needs: access.Read, run: (*exchange).parameterStatus, safe: true, json: true, params: []string{"url", "code", "resourcetype"}, level: levelType, code: "status", operation: definitionStatus, only: "SearchParameter"},

		{place: placeBase, method: get, name: "search-system", needs: access.Search, run: (*exchange).searchTypes, safe: true, json: true, params: search, level: levelSystem, code: "search-system"},
		{place: placeSystemSearch, method: post, name: "search-system", needs: access.Search, run: (*exchange).searchTypes, json: true, params: search},
		{place: placeType, method: get, name: "search-type", needs: access.Search, run: (*exchange).searchTypes, safe: true, json: true, params: search, level: levelType, code: "search-type"},
		{place: placeTypeSearch, method: get, name: "search-type", needs: access.Search, run: (*exchange).searchTypes, safe: true, json: true, params: search},
		{place: placeTypeSearch, method: post, name: "search-type", needs: access.Search, run: (*exchange).searchTypes, json: true, params: search},
		{place: placeCompartment, method: get, name: "search-compartment", needs: access.Search, run: (*exchange).searchCompartment, safe: true, json: true, params: search},

		{place: placeEverything, method: get, name: "everything", needs: access.Read | access.Search, run: (*exchange).everything, safe: true, json: true, params: search, level: levelType, code: "everything", operation: definitionEverything, only: "Patient"},
		{place: placeEverything, method: post, name: "everything", needs: access.Read | access.Search, run: (*exchange).everything, json: true, params: search},

		{place: placeType, method: put, name: "conditional-update", needs: access.Update | access.Search, run: (*exchange).write, prepare: (*exchange).conditionalUpdate, conditional: true, json: true, params: search},
		{place: placeType, method: methodPatch, name: "conditional-patch", needs: access.Update | access.Search, run: (*exchange).write, prepare: (*exchange).conditionalPatch, conditional: true, json: true, params: search},
		{place: placeType, method: del, name: "conditional-delete", needs: access.Delete | access.Search, run: (*exchange).conditionalDelete, prepare: (*exchange).conditionalDeleteOne, conditional: true, params: search},
		unknownOperation(placeSystemOperation, get), unknownOperation(placeSystemOperation, post),
		unknownOperation(placeTypeOperation, get), unknownOperation(placeTypeOperation, post),
		unknownOperation(placeInstanceOperation, get), unknownOperation(placeInstanceOperation, post),
	}
}

func unknownOperation(p place, m method) interaction {
	return interaction{place: p, method: m, name: "operation", needs: access.Known, params: []string{"*"}, run: func(x *exchange) error {
		return notSupported(fasthttp.StatusNotFound, "The operation '%s' is not supported.", x.addr.name)
	}}
}

// rowNone is the row of a request that matched none.
const rowNone = -1

// table finds the row of an address and method.
type table struct {
	rows  []interaction
	index [placeCount][methodCount]int16 // rowNone, or into rows
}

func newTable() *table {
	t := &table{rows: interactions()}
	for p := range t.index {
		for m := range t.index[p] {
			t.index[p][m] = rowNone
		}
	}
	for i, row := range t.rows {
		if row.needs == 0 {
			panic("BUG: the interaction " + row.name + " does not say what it needs of a client")
		}
		t.index[row.place][row.method] = int16(i)
		if row.safe {
			t.index[row.place][methodHead] = int16(i)
		}
	}
	return t
}

func (t *table) find(p place, m method) int { return int(t.index[p][m]) }

func (t *table) name(row int) string {
	if row == rowNone {
		return "none"
	}
	return t.rows[row].name
}

// allowed lists the methods of a place, for the Allow header.
func (t *table) allowed(p place) string {
	var names []string
	for m := methodGet; m < methodCount; m++ {
		if m == methodOptions || t.find(p, m) != rowNone {
			names = append(names, methodNames[m])
		}
	}
	return strings.Join(names, ", ")
}
