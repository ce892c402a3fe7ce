package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/valyala/fasthttp"
)

// answer is what is compared of two answers.
type answer struct {
	count    int64 // of the count, or matches of the page
	included int64
	dates    []time.Time // of the matches, in order, when the question is dated
}

// equal compares answers. Which resources a page without an order has is either's
// own choice, and so is how many it brings along.
func (a answer) equal(b answer) bool {
	return a.count == b.count && (a.included > 0) == (b.included > 0) && slices.EqualFunc(a.dates, b.dates, time.Time.Equal)
}

// searchDoor asks kiln.
type searchDoor struct {
	door     *fasthttp.HostClient
	base     string
	request  *fasthttp.Request
	response *fasthttp.Response
}

func newSearchDoor(base string) *searchDoor {
	host, _, _ := strings.Cut(strings.TrimPrefix(base, "http://"), "/")
	return &searchDoor{
		door:    &fasthttp.HostClient{Addr: host, ReadBufferSize: 64 << 10, MaxResponseBodySize: 64 << 20},
		base:    base,
		request: fasthttp.AcquireRequest(), response: fasthttp.AcquireResponse(),
	}
}

func (d *searchDoor) close() {
	d.door.CloseIdleConnections()
	fasthttp.ReleaseRequest(d.request)
	fasthttp.ReleaseResponse(d.response)
}

var valueName = regexp.MustCompile(`\{[a-z-]+\}`)

// address fills in the values.
func (q *question) filled(values asked) string {
	return valueName.ReplaceAllStringFunc(q.address, func(name string) string {
		return url.QueryEscape(values[strings.Trim(name, "{}")])
	})
}

func (d *searchDoor) ask(q *question, values asked) (answer, time.Duration, error) {
	d.request.Reset()
	d.response.Reset()
	d.request.SetRequestURI(d.base + "/" + q.filled(values))
	sent := time.Now()
	err := d.door.DoTimeout(d.request, d.response, requestTimeout)
	took := time.Since(sent)
	body := d.response.Body()
	if err != nil || d.response.StatusCode() != http.StatusOK {
		return answer{}, 0, fmt.Errorf("GET %s: status %d: %.500s: %w", d.request.RequestURI(), d.response.StatusCode(), body, errors.Join(err))
	}
	if strings.HasSuffix(q.address, asCount) {
		n, ok := parseCount(body, `"total":`)
		if !ok {
			return answer{}, 0, fmt.Errorf("GET %s: no total in %.500s", d.request.RequestURI(), body)
		}
		return answer{count: n}, took, nil
	}
	a := answer{
		count:    int64(bytes.Count(body, []byte(`"search":{"mode":"match"}`))),
		included: int64(bytes.Count(body, []byte(`"search":{"mode":"include"}`))),
	}
	if q.dated {
		a.dates, err = appendDates(nil, body)
	}
	return a, took, err
}

var effectiveDate = regexp.MustCompile(`"effectiveDateTime": ?"([^"]*)"`)

// appendDates appends the dates of observations, in order.
func appendDates(dst []time.Time, text []byte) ([]time.Time, error) {
	for _, found := range effectiveDate.FindAllSubmatch(text, -1) {
		at, err := time.Parse(time.RFC3339, string(found[1]))
		if err != nil {
			return nil, err
		}
		dst = append(dst, at)
	}
	return dst, nil
}

// postgresAsker is one connection over the Unix socket.
type postgresAsker struct {
	conn *pgx.Conn
	pid  int // of the server's process that answers; parallel workers are others
}

// asker connects with the settings that suit short questions over data in memory.
func (p *postgres) asker(ctx context.Context) (*postgresAsker, error) {
	config, err := pgx.ParseConfig("host=" + p.socket + " user=postgres dbname=postgres")
	if err != nil {
		return nil, err
	}
	config.RuntimeParams = map[string]string{
		"timezone": "UTC", "jit": "off", "random_page_cost": "1.1", "work_mem": "64MB", "effective_cache_size": "4GB",
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &postgresAsker{conn, int(conn.PgConn().PID())}, nil
}

func (p *postgresAsker) close() { p.conn.Close(context.Background()) }

// prepared gives a statement with numbered parameters, and their values.
func (s *statement) prepared(values asked) (sql string, arguments []any) {
	var names []string
	sql = valueName.ReplaceAllStringFunc(s.sql, func(name string) string {
		at := slices.Index(names, name)
		if at < 0 {
			at, names = len(names), append(names, name)
			arguments = append(arguments, values[strings.Trim(name, "{}")])
		}
		return fmt.Sprintf("$%d", at+1)
	})
	return sql, arguments
}

// ask runs a statement, prepared once, and reads all of its rows.
func (p *postgresAsker) ask(ctx context.Context, q *question, s *statement, values asked) (a answer, took time.Duration, err error) {
	sql, arguments := s.prepared(values)
	var dated [][]byte
	sent := time.Now()
	rows, err := p.conn.Query(ctx, sql, arguments...)
	if err != nil {
		return a, 0, err
	}
	if strings.HasSuffix(q.address, asCount) {
		a.count, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return a, time.Since(sent), err
	}
	for rows.Next() {
		raw := rows.RawValues()
		if raw[0][0] != 0 {
			a.included++
			continue
		}
		if a.count++; q.dated {
			dated = append(dated, bytes.Clone(raw[1]))
		}
	}
	took = time.Since(sent)
	if err := rows.Err(); err != nil {
		return a, 0, err
	}
	for _, doc := range dated {
		if a.dates, err = appendDates(a.dates, doc); err != nil {
			return a, 0, err
		}
	}
	return a, took, nil
}
