package engine

func (s *searching) sorted(func(*Version) error) (Page, error) { return Page{}, ErrUnsortable }
