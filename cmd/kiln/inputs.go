package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// inputSuffixes are the files that a directory stands for.
var inputSuffixes = []string{".ndjson", ".ndjson.gz", ".ndjson.zst"}

// expandInputs makes of PATH|URL arguments the absolute URLs of an $import, in
// the order given, the files of a directory by name.
func expandInputs(args []string) ([]string, error) {
	var urls []string
	for _, arg := range args {
		if isURL(arg) {
			urls = append(urls, arg)
			continue
		}
		files, err := expandPath(arg)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			urls = append(urls, fileURL(file))
		}
	}
	return urls, nil
}

func isURL(arg string) bool {
	for _, scheme := range []string{"http://", "https://", "file://"} {
		if strings.HasPrefix(arg, scheme) {
			return true
		}
	}
	return false
}

// expandPath gives the absolute paths that one path stands for.
func expandPath(path string) ([]string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cannot make %q absolute: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read input: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("cannot read input: %w", err)
	}
	var files []string
	for _, entry := range entries {
		if !entry.IsDir() && slices.ContainsFunc(inputSuffixes, func(s string) bool { return strings.HasSuffix(entry.Name(), s) }) {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("directory %q has no *.ndjson, *.ndjson.gz or *.ndjson.zst", path)
	}
	return files, nil
}

func fileURL(path string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String()
}
