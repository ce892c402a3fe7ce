package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// measurePages follows the next links from an address on with one client, so many pages
// at most, and reads nothing of them but their links.
func (b *bench) measurePages(ctx context.Context, name, address string, most int) error {
	var pages, entries, size int
	start := time.Now()
	for address != "" && pages < most {
		body, err := get(ctx, address)
		if err != nil {
			return err
		}
		pages, entries, size = pages+1, entries+bytes.Count(body, []byte(`"fullUrl":"`)), size+len(body)
		if address, err = nextLink(body); err != nil {
			return fmt.Errorf("cannot read a page of %s: %w", name, err)
		}
	}
	took := time.Since(start)
	b.report.add(name, append(throughput(int64(entries), int64(size), took),
		figure{"pages", float64(pages), "pages"}, figure{"pages per second", float64(pages) / took.Seconds(), perSecond("pages")})...)
	return nil
}

// nextLink is the address of the page behind this one; "": there is none. A page's links
// stand before its entries, which are not read.
func nextLink(page []byte) (string, error) {
	head, _, found := bytes.Cut(page, []byte(`,"entry":[`))
	if found {
		head = append(bytes.Clone(head), '}')
	}
	var links struct {
		Link []struct{ Relation, URL string }
	}
	if err := json.Unmarshal(head, &links); err != nil {
		return "", err
	}
	for _, link := range links.Link {
		if strings.EqualFold(link.Relation, "next") {
			return link.URL, nil
		}
	}
	return "", nil
}
