// Package backup copies a store to a directory or a blob container while it is
// in use, and makes a data directory of such a copy again.
//
// A target holds immutable files, each under a name of its own, and a manifest
// for each backup, which names the files it needs with their lengths and
// SHA-256 and is written last:
//
//	runs/ID-HASH-BYTES.run            a run file as it is, by its id, xxh64 and length
//	checkpoints/SHA256.checkpoint     the store's description at an LSN
//	log/BACKUP-FIRST-LAST.log         records of the log (see log_file.go)
//	manifests/BACKUP.SHA256.json      see Manifest; its own hash is in its name
//	LOCK                              held while a backup or a pruning works
//
// A backup copies the runs that the target does not have, so that the next one
// to the same target costs what is new. Where one follows another, its log leads
// from there to it, and any LSN in between can be restored (moment.go).
package backup
