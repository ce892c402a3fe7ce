package index

// closeNumbers makes the terms of an object around numbers.
func (x *Extractor) closeNumbers(s *site, f *frame) {
	switch s.reader {
	case readQuantity:
		x.quantity(s, f)
	case readMoney:
		if value := x.text(f, 1); len(value) > 0 {
			x.decimal(s, AppendQuantityUnit(x.buf[:0], []byte(currencySystem), x.text(f, 2)), value)
		}
	case readQuantityRange:
		x.quantityRange(s, f)
	case readNumberRange:
		if low, high := x.text(f, 1), x.text(f, 2); len(low)+len(high) > 0 {
			x.interval(s, append(x.buf[:0], numberInterval), low, high)
		}
	case readPosition:
		if latitude, longitude := x.text(f, 1), x.text(f, 2); len(latitude) > 0 && len(longitude) > 0 {
			x.position(s, latitude, longitude)
		}
	}
}

func (x *Extractor) quantity(s *site, f *frame) {
	value, system, code, unit, comparator := x.text(f, 1), x.text(f, 2), x.text(f, 3), x.text(f, 4), x.text(f, 5)
	if len(value) == 0 {
		return
	}
	low, high := value, value
	switch string(comparator) {
	case "<", "<=":
		low = nil
	case ">", ">=":
		high = nil
	}
	texted := len(unit) > 0 && string(unit) != string(code)
	if len(low) > 0 && len(high) > 0 {
		x.decimal(s, AppendQuantityUnit(x.buf[:0], system, code), value)
		if texted {
			x.decimal(s, AppendQuantityText(x.buf[:0], unit), value)
		}
		return
	}
	x.interval(s, AppendQuantityIntervalUnit(x.buf[:0], system, code), low, high)
	if texted {
		x.interval(s, AppendQuantityIntervalText(x.buf[:0], unit), low, high)
	}
}

// quantityRange gives a Range in the unit of its low end, or, where that has
// none, of its high end.
func (x *Extractor) quantityRange(s *site, f *frame) {
	low, high := x.text(f, 1), x.text(f, 5)
	if len(low)+len(high) == 0 {
		return
	}
	at := 1
	if len(x.text(f, 2))+len(x.text(f, 3))+len(x.text(f, 4)) == 0 {
		at = 5
	}
	system, code, unit := x.text(f, at+1), x.text(f, at+2), x.text(f, at+3)
	x.interval(s, AppendQuantityIntervalUnit(x.buf[:0], system, code), low, high)
	if len(unit) > 0 && string(unit) != string(code) {
		x.interval(s, AppendQuantityIntervalText(x.buf[:0], unit), low, high)
	}
}

// decimal gives value with a number behind it.
func (x *Extractor) decimal(s *site, value, number []byte) {
	value, ok := AppendDecimal(value, number)
	if !ok {
		x.failNumber(number)
		return
	}
	x.emit(s, value)
}

// position gives latitude and longitude.
func (x *Extractor) position(s *site, latitude, longitude []byte) {
	value, ok := AppendDecimal(x.buf[:0], latitude)
	if !ok {
		x.failNumber(latitude)
		return
	}
	x.decimal(s, value, longitude)
}

// interval gives value with both ends behind it; an empty one is open.
func (x *Extractor) interval(s *site, value, low, high []byte) {
	ok := true
	if len(low) == 0 {
		value = append(value, decimalLowest)
	} else if value, ok = AppendDecimal(value, low); !ok {
		x.failNumber(low)
		return
	}
	if len(high) > 0 {
		x.decimal(s, value, high)
		return
	}
	x.emit(s, append(value, decimalHighest))
}

func (x *Extractor) failNumber(text []byte) {
	x.fail("the number %.40s has an exponent that is too large", string(text))
}
