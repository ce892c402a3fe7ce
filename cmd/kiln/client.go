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
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	// A server that restarts is away for seconds; seven retries with doubling
	// waits bridge about 20 s.
	retriesMax   = 7
	retryWaitMin = 200 * time.Millisecond
	retryWaitMax = 5 * time.Second

	// A job's status is asked for when Retry-After says so, within these
	// bounds; the first time after the shorter one, since small jobs take no longer.
	pollWaitMin = 50 * time.Millisecond
	pollWaitMax = time.Minute

	// answerBytesMax bounds what is read of an answer that should be small: a
	// manifest of 100,000 files is about 20 MB.
	answerBytesMax = 64 << 20

	defaultServer = "http://127.0.0.1:8080/fhir"
)

// client talks to one FHIR server.
type client struct {
	base    string // without a slash at the end
	http    *retryablehttp.Client
	waitMax time.Duration // between two looks at a job
}

// newClient takes the FHIR base of a server that needs no token.
func newClient(server string) (*client, error) {
	return new(connectFlags).client(server)
}

func plainClient(server string) (*client, *url.URL, error) {
	parsed, err := url.Parse(server)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return nil, nil, usageError("--server %q is not an http(s) address", server)
	}
	if strings.Trim(parsed.Path, "/") == "" {
		parsed.Path = "/fhir"
	}
	retrying := retryablehttp.NewClient()
	retrying.Logger = nil
	retrying.RetryMax = retriesMax
	retrying.RetryWaitMin = retryWaitMin
	retrying.RetryWaitMax = retryWaitMax
	retrying.CheckRetry = retryable
	retrying.ErrorHandler = retryablehttp.PassthroughErrorHandler
	return &client{base: strings.TrimRight(parsed.String(), "/"), http: retrying, waitMax: pollWaitMax}, parsed, nil
}

// retryable repeats what may work a moment later. A 500 is a final answer
// here: it is how a failed job reports itself.
func retryable(ctx context.Context, answer *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if isOurFault(err) {
		return false, err
	}
	if err != nil {
		return true, nil
	}
	return isPassing(answer.StatusCode), nil
}

func isPassing(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// do sends one request; the caller closes the answer's body.
func (c *client) do(ctx context.Context, method, address string, header map[string]string, body []byte) (*http.Response, error) {
	var content any
	if body != nil {
		content = body
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, fmt.Errorf("cannot make a request to %q: %w", address, err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the server: %w", err)
	}
	return answer, nil
}

// kickOff starts a job and returns its status address.
func (c *client) kickOff(ctx context.Context, method, address string, body []byte) (string, error) {
	header := map[string]string{"Accept": "application/fhir+json", "Prefer": "respond-async"}
	if body != nil {
		header["Content-Type"] = "application/fhir+json"
	}
	answer, err := c.do(ctx, method, address, header, body)
	if err != nil {
		return "", err
	}
	text, err := readAnswer(answer)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusAccepted {
		return "", errorFrom(answer, text)
	}
	status, err := answer.Request.URL.Parse(answer.Header.Get("Content-Location"))
	if err != nil || answer.Header.Get("Content-Location") == "" {
		return "", fmt.Errorf("the server took the job but its Content-Location %q is no address", answer.Header.Get("Content-Location"))
	}
	return status.String(), nil
}

// follow asks for the status of a job until it is final, as often as the
// server wants, and returns the result object.
func (c *client) follow(ctx context.Context, address string, progress *progress) ([]byte, error) {
	for wait, early := pollWaitMin, pollWaitMin; ; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
		answer, err := c.do(ctx, http.MethodGet, address, map[string]string{"Accept": "application/json"}, nil)
		if err != nil {
			return nil, err
		}
		text, err := readAnswer(answer)
		if err != nil {
			return nil, err
		}
		switch answer.StatusCode {
		case http.StatusOK:
			return text, nil
		case http.StatusAccepted:
			progress.tell(answer.Header.Get("X-Progress"))
		default:
			return nil, errorFrom(answer, text)
		}
		wait = min(retryAfter(answer), c.waitMax)
		if early < time.Second && wait <= time.Second {
			// A small job is over long before the shortest Retry-After there is:
			// its time and rate would be those of the wait.
			early *= 2
			wait = min(wait, early)
		}
	}
}

// retryAfter is how long the server wants us to wait: seconds or a date.
func retryAfter(answer *http.Response) time.Duration {
	text := answer.Header.Get("Retry-After")
	wait := pollWaitMin
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(text); err == nil {
		wait = time.Until(date)
	}
	return min(max(wait, pollWaitMin), pollWaitMax)
}

// readAnswer reads and closes a bounded body.
func readAnswer(answer *http.Response) ([]byte, error) {
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the server's answer: %w", err)
	}
	if len(text) > answerBytesMax {
		return nil, fmt.Errorf("the server's answer is over %d bytes", answerBytesMax)
	}
	return text, nil
}

// outcome is the part of an OperationOutcome that people read.
type outcome struct {
	Issue []struct {
		Details     struct{ Text string }
		Diagnostics string
	}
}

// errorFrom makes an error of a refusal: the texts of the OperationOutcome
// when there is one.
func errorFrom(answer *http.Response, body []byte) error {
	var refusal outcome
	var texts []string
	if json.Unmarshal(body, &refusal) == nil {
		for _, issue := range refusal.Issue {
			for _, text := range []string{issue.Details.Text, issue.Diagnostics} {
				if text = strings.TrimSpace(text); text != "" {
					texts = append(texts, text)
				}
			}
		}
	}
	if len(texts) == 0 {
		texts = append(texts, string(bytes.TrimSpace(body[:min(len(body), 500)])))
	}
	return &serverError{answer.StatusCode, fmt.Sprintf("the server answered %s: %s", answer.Status, strings.Join(texts, "; "))}
}

// serverError is a refusal.
type serverError struct {
	status int
	text   string
}

func (e *serverError) Error() string { return e.text }

// isFinal tells a refusal that stays from an answer, or none, that may be another
// one later.
func isFinal(err error) bool {
	var refused *serverError
	return errors.As(err, &refused) && !isPassing(refused.status)
}

// stillRunning adds where a job can be found when its follower had to stop.
func stillRunning(err error, address string) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("interrupted; the job goes on at the server: GET %s tells its status, DELETE cancels it", address)
	}
	return err
}
