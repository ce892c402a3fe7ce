package backup

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"kiln/bulk"
	"kiln/internal/npmtest"
	"kiln/internal/vfs"
)

// All that works with a directory works with a container of a storage account.
func TestBackupsToBlobs(t *testing.T) {
	account := npmtest.StartAzurite(t, "../testdata/azurite")
	azure := bulk.AzureOptions{ConnectionString: npmtest.AzuriteConnection(account)}
	w := newWorld(t, 1, nil)
	var err error
	if w.target, err = OpenTarget(w.disk, account+"/backups/of/main", azure); err != nil {
		t.Fatal(err)
	}
	if backups, err := List(context.Background(), w.target, nil); err != nil || len(backups) != 0 {
		t.Errorf("a container that is not there: %v, %v", backups, err)
	}
	for range 400 {
		w.write()
	}
	first := w.backup()
	for range 30 {
		w.write()
	}
	before := w.stored("")
	second := w.backup()
	if got := w.stored("") - before; got != second.BytesCopied || second.RunsCopied != 1 || second.Follows != first.ID {
		t.Errorf("the target grew by %d bytes, the backup says %+v", got, second)
	}
	w.restore(Moment{Backup: first.ID})
	w.restore(Moment{LSN: first.LSN + 7})
	w.restore(Moment{})

	held, unlock, err := w.target.Lock(context.Background())
	if err != nil || held.Err() != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), Options{Store: w.store, FS: w.fs, Target: w.target}); !errors.Is(err, ErrBusy) {
		t.Errorf("beside another backup: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	if pruned, err := Prune(context.Background(), w.target, 1); err != nil || len(pruned.Backups) != 1 || pruned.Files == 0 {
		t.Errorf("a pruning: %+v, %v", pruned, err)
	}
	v, err := Verify(context.Background(), w.target, Pace{}, func(err error) { t.Error(err) })
	if err != nil || v.Backups != 1 || v.Damaged != 0 {
		t.Errorf("a check: %+v, %v", v, err)
	}
	w.spoilBlob()
}

// spoilBlob puts other bytes in the place of a run.
func (w *world) spoilBlob() {
	w.t.Helper()
	for name, bytes := range w.list(runsFolder) {
		name = runsFolder + "/" + name
		if err := w.target.Put(context.Background(), name, strings.NewReader(strings.Repeat("x", int(bytes)))); err != nil {
			w.t.Fatal(err)
		}
		found := ""
		if v, err := Verify(context.Background(), w.target, Pace{}, func(err error) { found = err.Error() }); err != nil || v.Damaged != 1 || !strings.Contains(found, name) {
			w.t.Errorf("a check of other bytes: %+v, %v, %q", v, err, found)
		}
		_, err := Restore(context.Background(), w.restoreOptions(vfs.NewMem(1), Moment{}))
		if !isDamage(err) || !strings.Contains(err.Error(), name) {
			w.t.Errorf("a restore of other bytes: %v", err)
		}
		if err := w.target.Remove(context.Background(), name); err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.target.Open(context.Background(), name); !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("a missing blob: %v", err)
		}
		return
	}
}

func TestAddressesOfBlobTargets(t *testing.T) {
	azure := bulk.AzureOptions{AccountURL: "https://acct.blob.core.windows.net", AccountKey: "a2V5"}
	f := func(target string, ok bool) {
		t.Helper()
		if _, err := OpenTarget(vfs.NewMem(1), target, azure); (err == nil) != ok {
			t.Errorf("%s: %v", target, err)
		}
	}
	f("https://acct.blob.core.windows.net/backups", true)
	f("https://acct.blob.core.windows.net/backups/a/b/", true)
	f("https://acct.blob.core.windows.net/", false)
	f("https://acct.blob.core.windows.net/Not_A_Container/a", false)
	f("https://acct.blob.core.windows.net/backups/../other", false)
	f("https://acct.blob.core.windows.net/backups/%2e%2e/other", false)
	f("https://other.blob.core.windows.net/backups", false)
	f("https://acct.blob.core.windows.net/backups?sig=secret", false)
	f("http://169.254.169.254/backups", false)
}
