package httpapi

import (
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/query"
)

// everything answers Patient/{id}/$everything: the patient's compartment, the
// patient, and what those refer to outside of it (R4
// patient-operation-everything.html). It is a search, with its pages.
func (x *exchange) everything() error {
	if err := x.takeParameters(); err != nil {
		return err
	}
	for _, name := range [...]string{"start", "end"} {
		if x.ctx.QueryArgs().Has(name) {
			return notSupported(400, "The parameter '%s' is not supported.", name)
		}
	}
	if since := x.ctx.QueryArgs().Peek("_since"); len(since) > 0 {
		x.ctx.QueryArgs().Set("_lastUpdated", "ge"+string(since))
		x.ctx.QueryArgs().Del("_since")
	}
	compartment, err := query.CompartmentTypes(x.addr.typ)
	if err != nil {
		return err
	}
	if _, err := x.live(); err != nil {
		return err
	}
	return x.searchOf(nil, func(s *query.Search) error {
		except := compartment
		if len(s.Types) == 0 {
			s.Types = compartment
		} else {
			except = slices.Clone(compartment)
			for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
				if !slices.Contains(s.Types, t) {
					except = append(except, t)
				}
			}
		}
		if s.Count < 0 {
			s.Count = searchCountMax
		}
		if err := s.BringReferred(except); err != nil {
			return err
		}
		return s.Within(x.addr.typ, string(x.addr.id), true)
	})
}

// takeParameters adds what a POSTed Parameters resource says to the address's.
func (x *exchange) takeParameters() error {
	body := x.ctx.PostBody()
	if !x.ctx.IsPost() || len(body) == 0 {
		return nil
	}
	if err := x.checkWrite(); err != nil {
		return err
	}
	text, err := fhir.Minify(body)
	if err != nil {
		return err
	}
	var members objectMembers
	if text[0] != '{' || members.read(text, 0, "It", "resourceType", "parameter") != nil || members.text(text, "resourceType") != "Parameters" {
		return badRequest("The body is not a Parameters resource.")
	}
	list, ok := members["parameter"]
	if !ok {
		return nil
	}
	if text[list.from] != '[' {
		return badRequest("The parameters of the body are not a list.")
	}
	fhir.Elements(text, list.from, func(at, _ int) bool {
		err = x.takeParameter(text, at)
		return err == nil
	})
	return err
}

func (x *exchange) takeParameter(text []byte, at int) error {
	var name, value string
	if text[at] == '{' {
		fhir.Members(text, at, func(key []byte, from, to int) bool {
			plain := string(text[from:to])
			if text[from] == '"' {
				plain = string(fhir.AppendText(nil, text[from:to]))
			}
			switch {
			case string(key) == "name":
				name = plain
			case strings.HasPrefix(string(key), "value"):
				value = plain
			}
			return true
		})
	}
	if name == "" || value == "" {
		return badRequest("A parameter of the body has no name or no value.")
	}
	x.ctx.QueryArgs().Add(name, value)
	return nil
}
