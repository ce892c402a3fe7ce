package main

import (
	"encoding/json"
	"fmt"
	"time"
)

// importResult is the final object of an $import.
type importResult struct {
	TransactionTime string        `json:"transactionTime"`
	Request         string        `json:"request"`
	Output          []inputCount  `json:"output"`
	Error           []inputErrors `json:"error"`
}

// instantLayout writes instants as the server does in its results.
const instantLayout = "2006-01-02T15:04:05.000-07:00"

// inputCount tells the loaded lines of one input; Type is null when the
// request named none.
type inputCount struct {
	Type     *string `json:"type"`
	Count    int64   `json:"count"`
	InputURL string  `json:"inputUrl"`
}

// inputErrors tells the refused lines of one input and where they are explained.
type inputErrors struct {
	Type     *string `json:"type"`
	Count    int64   `json:"count"`
	InputURL string  `json:"inputUrl"`
	URL      string  `json:"url"`
}

// refusalsShown inputs with refused lines are named; of thousands nobody would
// see the summary below.
const refusalsShown = 20

// report prints the result, and is the error of exit code 3 when lines were
// refused. raw is what --json prints.
func (r *importResult) report(std streams, raw []byte, asJSON bool, took time.Duration) error {
	var loaded, refused int64
	for _, in := range r.Output {
		loaded += in.Count
	}
	for i, in := range r.Error {
		refused += in.Count
		if i < refusalsShown {
			fmt.Fprintf(std.err, "refused %d lines of %s: see %s\n", in.Count, in.InputURL, in.URL)
		}
	}
	if more := len(r.Error) - refusalsShown; more > 0 {
		fmt.Fprintf(std.err, "and lines of %d other inputs: --json lists them all\n", more)
	}
	if asJSON {
		fmt.Fprintf(std.out, "%s\n", raw)
	} else {
		fmt.Fprintf(std.out, "loaded %d resources from %d files in %s (%s)\n", loaded, len(r.Output), rounded(took), rate(loaded, took))
	}
	if refused > 0 {
		return &exitError{code: exitRefused, err: fmt.Errorf("%d lines refused", refused)}
	}
	return nil
}

func rounded(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}

func rate(count int64, took time.Duration) string {
	return fmt.Sprintf("%.0f/s", float64(count)/max(took.Seconds(), 1e-6))
}

// parameters is the Parameters resource that starts an $import.
type parameters struct {
	ResourceType string      `json:"resourceType"`
	Parameter    []parameter `json:"parameter"`
}

type parameter struct {
	Name         string      `json:"name"`
	ValueString  string      `json:"valueString,omitempty"`
	ValueURI     string      `json:"valueUri,omitempty"`
	ValueBoolean bool        `json:"valueBoolean,omitempty"`
	Part         []parameter `json:"part,omitempty"`
}

// importOptions are the flags that import and load share.
type importOptions struct {
	Mode                  string `enum:"initial,incremental" default:"incremental" help:"initial: everything is new, duplicates are refused; incremental: new versions where content differs (${default})."`
	AllowNegativeVersions bool   `help:"Give versions older than the oldest one negative numbers."`
	Type                  string `placeholder:"TYPE" help:"Refuse lines of any other resource type."`
	JSON                  bool   `name:"json" help:"Print the result object."`
}

// body is the kick-off request. source tells two imports of the same files
// apart, which are one job otherwise.
func (o *importOptions) body(urls []string, source string) ([]byte, error) {
	mode := "IncrementalLoad"
	if o.Mode == "initial" {
		mode = "InitialLoad"
	}
	list := []parameter{
		{Name: "inputFormat", ValueString: "application/fhir+ndjson"},
		{Name: "inputSource", ValueURI: source},
		{Name: "mode", ValueString: mode},
	}
	if o.Mode == "initial" {
		// Who types the command is the operator: he wants it now.
		list = append(list, parameter{Name: "force", ValueBoolean: true})
	}
	if o.AllowNegativeVersions {
		list = append(list, parameter{Name: "allowNegativeVersions", ValueBoolean: true})
	}
	for _, address := range urls {
		parts := []parameter{{Name: "url", ValueURI: address}}
		if o.Type != "" {
			parts = append(parts, parameter{Name: "type", ValueString: o.Type})
		}
		list = append(list, parameter{Name: "input", Part: parts})
	}
	return json.Marshal(parameters{ResourceType: "Parameters", Parameter: list})
}
