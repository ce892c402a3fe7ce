package httpapi

import (
	"bytes"

	"kiln/fhir"
)

// place is a kind of address; {x} in the comments is one path segment.
type place uint8

const (
	placeNone              place = iota
	placeHealth                  // /healthz
	placeReady                   // /readyz
	placeMetrics                 // /metrics
	placeBase                    // /fhir
	placeMetadata                // /fhir/metadata
	placeSMART                   // /fhir/.well-known/smart-configuration
	placeToken                   // /fhir/oauth/token
	placeSystemHistory           // /fhir/_history
	placeSystemSearch            // /fhir/_search
	placeImport                  // /fhir/$import
	placeExport                  // /fhir/$export
	placeBulkPublish             // /fhir/$bulk-publish
	placeBackup                  // /fhir/$backup
	placeSystemOperation         // /fhir/${name}
	placeImportJob               // /fhir/_operations/import/{job}
	placeImportFile              // /fhir/_operations/import/{job}/{name}
	placeExportJob               // /fhir/_operations/export/{job}
	placeExportFile              // /fhir/_operations/export/{job}/{name}
	placeBackupJob               // /fhir/_operations/backup/{job}
	placeType                    // /fhir/{type}
	placeTypeSearch              // /fhir/{type}/_search
	placeTypeHistory             // /fhir/{type}/_history
	placeTypeValidate            // /fhir/{type}/$validate
	placeTypeExport              // /fhir/{type}/$export
	placeParameterStatus         // /fhir/SearchParameter/$status
	placeTypeOperation           // /fhir/{type}/${name}
	placeInstance                // /fhir/{type}/{id}
	placeInstanceHistory         // /fhir/{type}/{id}/_history
	placeVersion                 // /fhir/{type}/{id}/_history/{version}
	placeInstanceValidate        // /fhir/{type}/{id}/$validate
	placeInstancePurge           // /fhir/{type}/{id}/$purge-history
	placeEverything              // /fhir/Patient/{id}/$everything
	placeGroupExport             // /fhir/Group/{id}/$export
	placeInstanceOperation       // /fhir/{type}/{id}/${name}
	placeCompartment             // /fhir/{type}/{id}/{type or *}
	placeCount
)

// fhirPath is where the FHIR base lies.
const fhirPath = "/fhir"

// segmentsMax is the longest address below the base:
// {type}/{id}/_history/{version}.
const segmentsMax = 4

// address is a routed path. The slices alias the path.
type address struct {
	place    place
	typ      fhir.TypeCode
	typeName []byte // set with a typ of 0 when R4 has no such type
	id       []byte // of the resource, or of the job
	name     []byte // version, file or operation
}

// parseAddress routes a decoded path. A path that leads nowhere is placeNone.
func parseAddress(path []byte) address {
	rest, ok := bytes.CutPrefix(path, []byte(fhirPath))
	if !ok || len(rest) > 0 && rest[0] != '/' {
		return address{place: outsidePlace(path)}
	}
	rest = bytes.TrimSuffix(bytes.TrimPrefix(rest, []byte("/")), []byte("/"))
	if len(rest) == 0 {
		return address{place: placeBase}
	}
	var parts [segmentsMax][]byte
	n := 0
	for more := true; more; n++ {
		if n == segmentsMax {
			return address{}
		}
		parts[n], rest, more = bytes.Cut(rest, []byte("/"))
		if len(parts[n]) == 0 {
			return address{}
		}
	}
	switch first := parts[0]; {
	case string(first) == "_operations":
		return jobAddress(parts[1:n])
	case string(first) == ".well-known" || string(first) == "oauth":
		return authAddress(parts[:n])
	case first[0] == '$' || first[0] == '_' || string(first) == "metadata":
		return systemAddress(parts[:n])
	default:
		return typeAddress(parts[:n])
	}
}

func outsidePlace(path []byte) place {
	switch string(path) {
	case "/healthz":
		return placeHealth
	case "/readyz":
		return placeReady
	case "/metrics":
		return placeMetrics
	default:
		return placeNone
	}
}

func systemAddress(parts [][]byte) address {
	if len(parts) != 1 {
		return address{}
	}
	switch first := parts[0]; string(first) {
	case "metadata":
		return address{place: placeMetadata}
	case "_history":
		return address{place: placeSystemHistory}
	case "_search":
		return address{place: placeSystemSearch}
	case "$import":
		return address{place: placeImport}
	case "$export":
		return address{place: placeExport}
	case "$bulk-publish":
		return address{place: placeBulkPublish}
	case "$backup":
		return address{place: placeBackup}
	default:
		if first[0] == '$' {
			return address{place: placeSystemOperation, name: first}
		}
		return address{}
	}
}

// authAddress routes what tells clients how to come in.
func authAddress(parts [][]byte) address {
	switch {
	case len(parts) != 2:
		return address{}
	case string(parts[0]) == "oauth":
		return address{place: onlyAt(string(parts[1]) == "token", placeToken)}
	default:
		return address{place: onlyAt(string(parts[1]) == "smart-configuration", placeSMART)}
	}
}

// jobAddress routes what follows _operations: kind, job, and maybe a file.
func jobAddress(parts [][]byte) address {
	if len(parts) < 2 || len(parts) > 3 {
		return address{}
	}
	a := address{id: parts[1]}
	switch string(parts[0]) {
	case "import":
		a.place = placeImportJob
	case "export":
		a.place = placeExportJob
	case "backup":
		a.place = onlyAt(len(parts) == 2, placeBackupJob)
		return a
	default:
		return address{}
	}
	if len(parts) == 3 {
		a.name = parts[2]
		a.place++ // the job's file follows the job
	}
	return a
}

// typeAddress routes what begins with a resource type.
func typeAddress(parts [][]byte) address {
	a := address{typeName: parts[0]}
	a.typ = fhir.TypeByName(parts[0])
	if len(parts) == 1 {
		a.place = placeType
		return a
	}
	switch second := parts[1]; {
	case string(second) == "$validate":
		a.place = onlyAt(len(parts) == 2, placeTypeValidate)
		return a
	case string(second) == "$export":
		a.place = onlyAt(len(parts) == 2, placeTypeExport)
		return a
	case string(second) == "$status" && string(a.typeName) == "SearchParameter":
		a.place = onlyAt(len(parts) == 2, placeParameterStatus)
		return a
	case second[0] == '$':
		a.name = second
		a.place = onlyAt(len(parts) == 2, placeTypeOperation)
		return a
	case string(second) == "_history":
		a.place = onlyAt(len(parts) == 2, placeTypeHistory)
		return a
	case string(second) == "_search":
		a.place = onlyAt(len(parts) == 2, placeTypeSearch)
		return a
	default:
		a.id = second
		return instanceAddress(a, parts[2:])
	}
}

// instanceAddress routes what follows {type}/{id}.
func instanceAddress(a address, parts [][]byte) address {
	if len(parts) == 0 {
		a.place = placeInstance
		return a
	}
	third := parts[0]
	if string(third) == "_history" && len(parts) == 2 {
		a.name = parts[1]
		a.place = placeVersion
		return a
	}
	if len(parts) != 1 {
		return address{}
	}
	a.name = third
	switch isType := fhir.TypeByName(third) != 0; {
	case string(third) == "_history":
		a.place = placeInstanceHistory
	case string(third) == "$validate":
		a.place = placeInstanceValidate
	case string(third) == "$purge-history":
		a.place = placeInstancePurge
	case string(third) == "$everything" && string(a.typeName) == "Patient":
		a.place = placeEverything
	case string(third) == "$export" && string(a.typeName) == "Group":
		a.place = placeGroupExport
	case third[0] == '$':
		a.place = placeInstanceOperation
	case isType || string(third) == "*":
		a.place = placeCompartment
	default:
		return address{}
	}
	return a
}

func onlyAt(ok bool, p place) place {
	if ok {
		return p
	}
	return placeNone
}

// isAmbiguousPath finds paths that two readers could take for different
// resources: what the HTTP library would normalise away (empty and dot
// segments, encoded slashes and dots), control characters, and bad escapes.
// Proxies check the path they see; this server must see the same.
func isAmbiguousPath(original []byte) bool {
	if len(original) == 0 || original[0] != '/' {
		return true
	}
	segment := 0 // where it began
	for i := 0; i <= len(original); i++ {
		if i == len(original) || original[i] == '/' {
			if i > 0 && isOddSegment(original[segment:i], i == len(original)) {
				return true
			}
			segment = i + 1
			continue
		}
		switch c := original[i]; {
		case c == '\\' || c < 0x20 || c == 0x7f:
			return true
		case c == '%' && isOddEscape(original[i:]):
			return true
		}
	}
	return false
}

// isOddSegment: only the last segment may be empty (a slash at the end).
func isOddSegment(segment []byte, last bool) bool {
	if len(segment) == 0 {
		return !last
	}
	return string(segment) == "." || string(segment) == ".."
}

// isOddEscape takes a path from a '%' on.
func isOddEscape(rest []byte) bool {
	if len(rest) < 3 {
		return true
	}
	high, okHigh := hexDigit(rest[1])
	low, okLow := hexDigit(rest[2])
	if !okHigh || !okLow {
		return true
	}
	switch c := high<<4 | low; c {
	case '/', '\\', '.', '%', 0x7f:
		return true
	default:
		return c < 0x20
	}
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	default:
		return 0, false
	}
}
