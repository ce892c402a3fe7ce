package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// pollInterval is far below what a polite client would use: it, or a hundredth
// of the job's time, is the error of every measured job. The status of a job of
// 10,000 inputs is a megabyte.
const pollInterval = 10 * time.Millisecond

type parameter struct {
	Name         string      `json:"name"`
	ValueString  string      `json:"valueString,omitempty"`
	ValueURI     string      `json:"valueUri,omitempty"`
	ValueBoolean *bool       `json:"valueBoolean,omitempty"`
	Part         []parameter `json:"part,omitempty"`
}

// importResult is the part of a finished import's answer that is counted.
type importResult struct {
	Output []struct{ Count int64 }
	Error  []struct{ Count int64 }
}

func (r *importResult) loaded() (n int64) {
	for _, o := range r.Output {
		n += o.Count
	}
	return n
}

func (r *importResult) refused() (n int64) {
	for _, e := range r.Error {
		n += e.Count
	}
	return n
}

// runImport posts one $import of all files and follows it to its end.
func (s *server) runImport(ctx context.Context, files []string, mode string) (*importResult, time.Duration, error) {
	yes := true
	list := []parameter{
		{Name: "inputFormat", ValueString: "application/fhir+ndjson"},
		{Name: "mode", ValueString: mode},
		{Name: "force", ValueBoolean: &yes}, // InitialLoad without the server's flag
	}
	for _, path := range files {
		address := url.URL{Scheme: "file", Path: path}
		list = append(list, parameter{Name: "input", Part: []parameter{{Name: "url", ValueURI: address.String()}}})
	}
	body, err := json.Marshal(struct {
		ResourceType string      `json:"resourceType"`
		Parameter    []parameter `json:"parameter"`
	}{"Parameters", list})
	if err != nil {
		return nil, 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/$import", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Content-Type", "application/fhir+json")
	answer, took, err := s.runJob(request)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot import: %w", err)
	}
	result := &importResult{}
	return result, took, json.Unmarshal(answer, result)
}

// exportResult is the part of a finished export's manifest that is used.
type exportResult struct {
	Output []struct {
		Type  string
		URL   string
		Count int64
		Bytes int64 `json:"fileSize"`
	}
}

// runExport exports a level ("": the system; "/Group/ID") and follows the job to its
// end. query is "", or begins with "?".
func (s *server) runExport(ctx context.Context, of, query string) (*exportResult, time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+of+"/$export"+query, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", "application/fhir+json")
	answer, took, err := s.runJob(request)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot export: %w", err)
	}
	result := &exportResult{}
	return result, took, json.Unmarshal(answer, result)
}

// runJob sends the kick-off and polls until the job has an answer.
func (s *server) runJob(request *http.Request) ([]byte, time.Duration, error) {
	request.Header.Set("Prefer", "respond-async")
	start := time.Now()
	response, body, err := exchange(request)
	if err != nil {
		return nil, 0, err
	}
	status := response.Header.Get("Content-Location")
	if response.StatusCode != http.StatusAccepted || status == "" {
		return nil, 0, unexpected(response, body)
	}
	for {
		poll, err := http.NewRequestWithContext(request.Context(), http.MethodGet, status, nil)
		if err != nil {
			return nil, 0, err
		}
		response, body, err := exchange(poll)
		switch {
		case err != nil:
			return nil, 0, errors.Join(err, errors.New(s.logTail()))
		case response.StatusCode == http.StatusOK:
			return body, time.Since(start), nil
		case response.StatusCode != http.StatusAccepted && response.StatusCode != http.StatusTooManyRequests:
			return nil, 0, unexpected(response, body)
		}
		select {
		case <-request.Context().Done():
			return nil, 0, request.Context().Err()
		case <-time.After(max(pollInterval, time.Since(start)/100)):
		}
	}
}

func exchange(request *http.Request) (*http.Response, []byte, error) {
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

// get reads an address that must answer 200.
func get(ctx context.Context, address string) (body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, body, err := exchange(request)
	if err == nil && response.StatusCode != http.StatusOK {
		err = unexpected(response, body)
	}
	return body, err
}

func unexpected(response *http.Response, body []byte) error {
	return fmt.Errorf("%s %s: unexpected %s: %.2000s", response.Request.Method, response.Request.URL, response.Status, body)
}
