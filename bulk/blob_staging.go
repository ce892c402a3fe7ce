package bulk

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
)

const (
	// blobFillingMax bounds the blocks that are not full yet, of all files of all
	// exports: with more files they are sent smaller. Each file has exportBufferBytes
	// in any case.
	blobFillingMax = 32 << 20
	// blobHeldMax bounds the blocks that wait for the storage: then exports do.
	blobHeldMax = 32 << 20
	// blobSendsMax blocks are sent at a time: enough for the time that an answer
	// takes over some distance.
	blobSendsMax = 8
)

// blobStaging bounds the memory of all files that are written to the blob account.
type blobStaging struct {
	open    atomic.Int64  // files
	filling atomic.Int64  // bytes of blocks that are not handed over
	sends   chan struct{} // a token for each block that is being sent
	// staged blocks the account took, with so many bytes; committed of them are part of a file.
	staged, stagedBytes, committed atomic.Uint64

	mu    sync.Mutex    // guards what follows
	held  int64         // bytes of blocks that are handed over
	waits uint64        // how many they are
	eased chan struct{} // closed when there is room again; nil: nobody waits
}

// blockBytes is when a block is handed over, of a file that has so many.
func (s *blobStaging) blockBytes(blocks int) int {
	switch {
	case blocks >= blobBlocksMax/2:
		return blobBlockBytes // Azure's bound is near
	case s.filling.Load() >= blobFillingMax:
		return exportBufferBytes
	}
	return min(blobBlockBytes, max(exportBufferBytes, blobFillingMax/int(max(1, s.open.Load()))))
}

// hold counts a block that is handed over.
func (s *blobStaging) hold(n int64) {
	s.filling.Add(-n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += n
	s.waits++
}

func (s *blobStaging) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits--
	if s.held -= n; s.held < blobHeldMax && s.eased != nil {
		close(s.eased)
		s.eased = nil
	}
}

func (s *blobStaging) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held >= blobHeldMax
}

// wait returns when there is room.
func (s *blobStaging) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		if s.held < blobHeldMax {
			s.mu.Unlock()
			return nil
		}
		if s.eased == nil {
			s.eased = make(chan struct{})
		}
		eased := s.eased
		s.mu.Unlock()
		select {
		case <-eased:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send stages a block when it is its turn.
func (s *blobStaging) send(ctx context.Context, to *blockBlob, id string, block []byte) error {
	select {
	case s.sends <- struct{}{}:
		defer func() { <-s.sends }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := to.stage(ctx, id, bytes.NewReader(block), 0, int64(len(block))); err != nil {
		return err
	}
	s.staged.Add(1)
	s.stagedBytes.Add(uint64(len(block)))
	return nil
}

// tell fills in what metrics say of blocks.
func (s *blobStaging) tell(m *Metrics) {
	m.BlocksStaged, m.BlocksCommitted, m.BlockBytesStaged = s.staged.Load(), s.committed.Load(), s.stagedBytes.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	m.BlocksWaiting, m.BlockBytesWaiting = s.waits, uint64(s.held)
}
