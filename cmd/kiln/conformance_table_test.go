package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// checkFile is one file of testdata/conformance: a server, and the checks that
// are made on it in the order of the file.
//
//	serve --import-root {files}        flags of the server
//	file a.ndjson                      a file below {files}, up to a line "end"
//	{"resourceType":"Patient","id":"a"}
//	end
//
//	check NAME
//	needs FEATURE                      not built yet: the check is skipped
//	> PUT /fhir/Patient/a              the request line, then its headers
//	> If-Match: W/"1"
//	> (body: gzip)                     how the request is made; see directive
//	{"resourceType":"Patient","id":"a"}
//	< 200                              status, then headers of the answer
//	< ETag: W/"2"                      exactly this text
//	< Location ~ /_history/2$          matches the expression
//	< Location absent
//	id = a                             facts about the body; see fact
//	keep version = meta.versionId      for {version} in later checks
//
// {base} is the FHIR base, {host} the server's HOST:PORT. Lines that begin with
// "#" between checks are comments.
type checkFile struct {
	name   string
	flags  []string
	files  map[string]string
	checks []check
}

type check struct {
	name, at       string // at: file:line
	needs          string
	method, target string
	headers        []string // "Name: value" as they are sent
	directives     map[string]string
	body           string
	status         int
	facts          []fact // of headers and body
}

// fact is what an answer must show.
type fact struct {
	kind  factKind
	path  string // of the body, or the header's name
	op    string // "=", "~" (a regular expression), "absent", "keep"
	value string // of keep: the variable
}

type factKind uint8

const (
	factBody factKind = iota
	factHeader
)

// directives that a request may have, each as "(name: value)".
var directiveNames = map[string]string{
	"body":   "gzip, zstd or deflate: the body is sent encoded; none: no Content-Length either",
	"http":   "the version in the request line, 1.1 otherwise",
	"export": "manifest: the export that the request starts is followed to its manifest; resources: its files are read too; see exported",
	"wait":   "for the job: the request is repeated while the answer is 202",
	"pad":    "the body's one {pad} becomes that many letters",
	"times":  "the request is sent this often over one connection; the last answer counts",
}

var (
	headerFact = regexp.MustCompile(`^([A-Za-z0-9-]+)(: ?| ~ | (absent)$)(.*)$`)
	bodyFact   = regexp.MustCompile(`^(\S+) (=|~|absent)(?: (.*))?$`)
	keepFact   = regexp.MustCompile(`^keep ([a-z][A-Za-z0-9]*) = (header )?(\S+)$`)
)

// readChecks reads every file of the directory.
func readChecks(dir string) ([]checkFile, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var found []checkFile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		file, err := parseChecks(filepath.Base(path), string(text))
		if err != nil {
			return nil, err
		}
		found = append(found, *file)
	}
	return found, nil
}

// checkParser goes through the lines of one file.
type checkParser struct {
	file   checkFile
	check  *check
	inside string // the name of a file whose lines are being read
	needs  string // of all checks that follow
}

func parseChecks(name, text string) (*checkFile, error) {
	p := checkParser{file: checkFile{name: strings.TrimSuffix(name, ".txt"), files: map[string]string{}}}
	for i, line := range strings.Split(text, "\n") {
		at := name + ":" + strconv.Itoa(i+1)
		if err := p.line(at, line); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", at, err, line)
		}
	}
	if err := p.endCheck(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &p.file, nil
}

func (p *checkParser) line(at, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case p.inside != "":
		if line == "end" {
			p.inside = ""
		} else {
			p.file.files[p.inside] += line + "\n"
		}
		return nil
	case word == "check":
		if err := p.endCheck(); err != nil {
			return err
		}
		p.check = &check{name: rest, at: at, needs: p.needs, directives: map[string]string{}}
		return nil
	case p.check == nil:
		return p.head(word, rest)
	case line == "" || strings.HasPrefix(line, "# "):
		return nil
	case p.check.status != 0 || word == "<":
		return p.check.expectation(word, rest, line)
	default:
		return p.check.request(word, rest, line)
	}
}

// head reads what stands before the first check.
func (p *checkParser) head(word, rest string) error {
	switch word {
	case "", "#":
	case "serve":
		p.file.flags = append(p.file.flags, strings.Fields(rest)...)
	case "needs":
		p.needs = rest
	case "file":
		p.inside, p.file.files[rest] = rest, ""
	default:
		return fmt.Errorf("not known before the first check")
	}
	return nil
}

// endCheck refuses a check that says nothing but a status: any answer of that
// status would pass.
func (p *checkParser) endCheck() error {
	if p.check == nil {
		return nil
	}
	if p.check.method == "" || p.check.status == 0 || len(p.check.facts) == 0 {
		return fmt.Errorf("the check %q (%s) lacks a request, a status or a fact", p.check.name, p.check.at)
	}
	p.file.checks = append(p.file.checks, *p.check)
	p.check = nil
	return nil
}

func (c *check) request(word, rest, line string) error {
	directive, isDirective := strings.CutPrefix(rest, "(")
	switch {
	case word == "needs" && c.method == "":
		c.needs = rest
	case word != ">":
		c.body += line + "\n"
	case c.method == "":
		c.method, c.target, _ = strings.Cut(rest, " ")
		if c.target == "" {
			return fmt.Errorf("a request line is METHOD PATH")
		}
	case isDirective:
		name, value, _ := strings.Cut(strings.TrimSuffix(directive, ")"), ": ")
		if directiveNames[name] == "" {
			return fmt.Errorf("no such directive")
		}
		c.directives[name] = value
	default:
		c.headers = append(c.headers, rest)
	}
	return nil
}

func (c *check) expectation(word, rest, line string) error {
	if word == "<" && c.status == 0 {
		c.body = strings.TrimSuffix(c.body, "\n")
		var err error
		c.status, err = strconv.Atoi(rest)
		return err
	}
	if word == "<" {
		found := headerFact.FindStringSubmatch(rest)
		if found == nil {
			return fmt.Errorf("a header is NAME: VALUE, NAME ~ EXPRESSION or NAME absent")
		}
		op := map[byte]string{':': "=", '~': "~", 'a': "absent"}[strings.TrimSpace(found[2])[0]]
		c.facts = append(c.facts, fact{factHeader, found[1], op, found[4]})
		return nil
	}
	if found := keepFact.FindStringSubmatch(line); found != nil {
		kind := factBody
		if found[2] != "" {
			kind = factHeader
		}
		c.facts = append(c.facts, fact{kind, found[3], "keep", found[1]})
		return nil
	}
	found := bodyFact.FindStringSubmatch(line)
	if found == nil {
		return fmt.Errorf("a fact is PATH = VALUE, PATH ~ EXPRESSION, PATH absent or keep NAME = PATH")
	}
	c.facts = append(c.facts, fact{factBody, found[1], found[2], found[3]})
	return nil
}
