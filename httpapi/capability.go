package httpapi

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
)

// fhirVersion is the release this server speaks.
const fhirVersion = "4.0.1"

type codeOf struct {
	Code string `json:"code"`
}

type capabilityOperation struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
}

type capabilityParameter struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
	Type       string `json:"type"`

	Documentation string `json:"documentation,omitempty"`
}

type capabilityResource struct {
	Type              string   `json:"type"`
	Interaction       []codeOf `json:"interaction"`
	Versioning        string   `json:"versioning"`
	ReadHistory       bool     `json:"readHistory"`
	UpdateCreate      bool     `json:"updateCreate"`
	ConditionalCreate bool     `json:"conditionalCreate"`
	ConditionalRead   string   `json:"conditionalRead"`
	ConditionalUpdate bool     `json:"conditionalUpdate"`
	ConditionalDelete string   `json:"conditionalDelete"`

	SearchInclude    []string              `json:"searchInclude,omitempty"`
	SearchRevInclude []string              `json:"searchRevInclude,omitempty"`
	SearchParam      []capabilityParameter `json:"searchParam,omitempty"`
	Operation        []capabilityOperation `json:"operation"`
}

type capabilityRest struct {
	Mode          string                `json:"mode"`
	Documentation string                `json:"documentation,omitempty"`
	Security      *capabilitySecurity   `json:"security,omitempty"`
	Resource      []capabilityResource  `json:"resource"`
	Interaction   []codeOf              `json:"interaction"`
	SearchParam   []capabilityParameter `json:"searchParam,omitempty"`
	Operation     []capabilityOperation `json:"operation"`
	Compartment   []string              `json:"compartment,omitempty"`
}

type capabilityStatement struct {
	ResourceType string `json:"resourceType"`
	Status       string `json:"status"`
	Date         string `json:"date"`
	Kind         string `json:"kind"`
	// What it does as others have written it down.
	Instantiates []string `json:"instantiates"`
	Software     struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	} `json:"software"`
	Implementation struct {
		Description string `json:"description"`
		URL         string `json:"url"`
	} `json:"implementation"`
	FHIRVersion string           `json:"fhirVersion"`
	Format      []string         `json:"format"`
	PatchFormat []string         `json:"patchFormat"`
	Rest        []capabilityRest `json:"rest"`
}

// capabilities answers GET metadata, from the table that routes.
func (x *exchange) capabilities() error {
	mode, err := x.single("mode")
	if err != nil {
		return err
	}
	if mode != "" && mode != "full" && mode != "normative" {
		return notSupported(fasthttp.StatusBadRequest, "The value '%s' of the parameter 'mode' is not supported.", mode)
	}
	c := capabilityStatement{
		ResourceType: "CapabilityStatement", Status: "active", Kind: "instance", Instantiates: []string{definitionBulkData},
		Date:        x.server.started.UTC().Format(instantLayout),
		FHIRVersion: fhirVersion, Format: []string{contentTypeFHIR, "json"},
		PatchFormat: []string{contentTypeJSONPatch, contentTypeMergePatch, contentTypeFHIR},
		Rest:        []capabilityRest{x.server.table.capabilities(x.baseURL())},
	}
	if err := c.Rest[0].addSearch(x.server.parameters.Current().Table, x.server.opts.Units, x.server.opts.Store.Reindexing()); err != nil {
		return err
	}
	c.Rest[0].Security = x.security()
	c.Software.Name, c.Software.Version = "Kiln", x.server.opts.Version
	c.Implementation.Description, c.Implementation.URL = "Kiln FHIR server", x.baseURL()
	body, err := json.Marshal(&c)
	if err != nil {
		return err
	}
	x.body(fasthttp.StatusOK, contentTypeAnswer, append(x.buffer(), body...))
	return nil
}

func (t *table) capabilities(base string) capabilityRest {
	rest := capabilityRest{Mode: "server", Documentation: searchDocumentation}
	var ofType []codeOf
	var operationsOfType []capabilityOperation
	only := map[string][]capabilityOperation{}
	for _, row := range t.rows {
		switch {
		case row.operation != "":
			definition := row.operation
			if !strings.Contains(definition, "://") {
				definition = base + "/" + definition
			}
			if row.only != "" {
				only[row.only] = append(only[row.only], capabilityOperation{row.code, definition})
				if row.also != "" {
					only[row.only] = append(only[row.only], capabilityOperation{row.also, definition})
				}
			} else if row.level == levelType {
				operationsOfType = append(operationsOfType, capabilityOperation{row.code, definition})
			} else {
				rest.Operation = append(rest.Operation, capabilityOperation{row.code, definition})
			}
		case row.level == levelType:
			ofType = append(ofType, codeOf{row.code})
		case row.level == levelSystem:
			rest.Interaction = append(rest.Interaction, codeOf{row.code})
			if row.also != "" {
				rest.Interaction = append(rest.Interaction, codeOf{row.also})
			}
		}
	}
	for code := fhir.TypeCode(1); code <= fhir.TypeMax; code++ {
		rest.Resource = append(rest.Resource, capabilityResource{
			Type: code.String(), Interaction: ofType,
			Versioning: "versioned", ReadHistory: true, UpdateCreate: true,
			ConditionalRead: "full-support", ConditionalDelete: "multiple",
			ConditionalCreate: true, ConditionalUpdate: true,
			Operation: slices.Concat(operationsOfType, only[code.String()]),
		})
	}
	return rest
}
