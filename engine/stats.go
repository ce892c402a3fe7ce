package engine

import (
	"sync/atomic"

	"kiln/index"
)

// Stats are counts and sizes for metrics, demo and fsck.
type Stats struct {
	Versions, Runs, HeadVersions           uint64
	LogBytes, RunBytes, HeadBytes          int64
	HeadTermsBytes                         int64 // of the search terms that searches have made
	CommitGroups, Commits, FsyncNanosTotal uint64
	Stalls                                 uint64
	// Merges of runs: how many, the bytes read and written, those that failed,
	// and those that found too little space.
	Merges, MergeReadBytes, MergeWrittenBytes uint64
	MergeFailures, MergeStalls                uint64
	ImportStalls                              uint64 // import rounds that waited for merges
	// Purges of a resource's versions, and how many versions they took.
	Purges, PurgedVersions uint64
	// Runs that were indexed again, the versions that were read for it, and how often it failed.
	Reindexes, ReindexedVersions, ReindexFailures uint64
	Reindexing                                    Reindexing
	BlockCache                                    index.CacheStats
	VisibleLSN                                    uint64
	ReadOnly                                      bool
}

type storeStats struct {
	groups, commits, stalls         atomic.Uint64
	merges, mergeRead, mergeWritten atomic.Uint64
	mergeFailures, mergeStalls      atomic.Uint64
	importStalls                    atomic.Uint64
	purges, purged                  atomic.Uint64
	reindexes, reindexed            atomic.Uint64
	reindexFailures                 atomic.Uint64
}

// Stats counts what the newest view holds.
func (s *Store) Stats() Stats {
	st := Stats{
		CommitGroups: s.stats.groups.Load(), Commits: s.stats.commits.Load(), Stalls: s.stats.stalls.Load(),
		Merges: s.stats.merges.Load(), MergeReadBytes: s.stats.mergeRead.Load(), MergeWrittenBytes: s.stats.mergeWritten.Load(),
		MergeFailures: s.stats.mergeFailures.Load(), MergeStalls: s.stats.mergeStalls.Load(), ImportStalls: s.stats.importStalls.Load(),
		Purges: s.stats.purges.Load(), PurgedVersions: s.stats.purged.Load(),
		Reindexes: s.stats.reindexes.Load(), ReindexedVersions: s.stats.reindexed.Load(), ReindexFailures: s.stats.reindexFailures.Load(),
		ReadOnly: s.poison.Load() != nil,
	}
	snap, err := s.Snapshot()
	if err != nil {
		return st
	}
	defer snap.Release()
	st.Reindexing = s.Reindexing()
	st.BlockCache = s.cache.Stats()
	st.VisibleLSN = snap.lsn
	st.LogBytes = s.log.Bytes()
	st.FsyncNanosTotal = uint64(s.log.Stats().SyncNanos)
	st.Runs = uint64(len(snap.view.runs))
	for _, g := range snap.view.gens {
		st.HeadVersions += uint64(g.count.Load() - g.purged.Load())
		st.HeadBytes += g.bytes.Load()
		st.HeadTermsBytes += g.terms.bytes.Load()
	}
	st.Versions = st.HeadVersions
	for _, r := range snap.view.runs {
		meta := r.run.Meta()
		st.RunBytes += meta.Bytes
		st.Versions += uint64(meta.Live)
		if void := r.voidAt(snap.lsn); void != nil {
			st.Versions -= void.GetCardinality()
		}
	}
	return st
}
