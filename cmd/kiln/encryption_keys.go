package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"kiln/engine"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// keyFlags say where the keys of encrypted files come from.
type keyFlags struct {
	EncryptionKeyFile    string `type:"path" placeholder:"FILE" help:"Keep files encrypted (AES-256-GCM): a file with one key a line, 32 bytes as base64 or hex (kiln keys --new makes one). The first is for new files, the others open what is under them. KILN_ENCRYPTION_KEY may hold the keys instead."`
	EncryptionKeyCommand string `placeholder:"COMMAND" help:"A shell command that prints such keys."`
}

const (
	// encryptionKeyEnv holds keys; no flag does, since other users see those.
	encryptionKeyEnv = "KILN_ENCRYPTION_KEY"
	// keyTextBytesMax is far above some hundred keys.
	keyTextBytesMax = 64 << 10
	// keyCommandTime is how long a command may take; it may ask another machine.
	keyCommandTime = time.Minute
)

// fs is the file system of data directories: one that encrypts when there are keys.
func (f *keyFlags) fs(ctx context.Context, std streams) (vfs.FS, error) {
	text, err := f.text(ctx, std)
	if err != nil || text == nil {
		return vfs.OS(), err
	}
	keys, err := sealed.ParseKeys(string(text))
	clear(text)
	if err != nil {
		return nil, usageError("%w", err)
	}
	return engine.EncryptedFS(vfs.OS(), keys), nil
}

// text is what the one source of keys has; nil: there is none.
func (f *keyFlags) text(ctx context.Context, std streams) ([]byte, error) {
	env, inEnv := os.LookupEnv(encryptionKeyEnv)
	given := 0
	for _, is := range []bool{inEnv, f.EncryptionKeyFile != "", f.EncryptionKeyCommand != ""} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, usageError("encryption keys come from one of --encryption-key-file, %s and --encryption-key-command", encryptionKeyEnv)
	case f.EncryptionKeyFile != "":
		return readKeyFile(f.EncryptionKeyFile)
	case f.EncryptionKeyCommand != "":
		return runKeyCommand(ctx, f.EncryptionKeyCommand, std)
	case inEnv:
		return []byte(env), nil
	}
	return nil, nil
}

func readKeyFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the encryption keys: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, keyTextBytesMax+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("cannot read the encryption keys: %w", err)
	}
	return boundedKeyText(text)
}

func boundedKeyText(text []byte) ([]byte, error) {
	if len(text) > keyTextBytesMax {
		return nil, usageError("the encryption keys have more than %d bytes", keyTextBytesMax)
	}
	if text == nil {
		text = []byte{}
	}
	return text, nil
}

// runKeyCommand never shows what the command printed.
func runKeyCommand(ctx context.Context, line string, std streams) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keyCommandTime)
	defer cancel()
	command := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, std.err
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("cannot get the encryption keys by the command: %w", err)
	}
	return boundedKeyText(out.Bytes())
}
