/// A line of `day,t_s,user,ap,event,rssi_dbm`, as ranges of the buffer that it stands in.
struct AssociationLine {
    /// Which column holds what; -1 where a column is missing.
    struct Columns {
        var day = 0
        var time = 1
        var user = 2
        var ap = 3
        var event = 4
        var rssi = 5

        init() {}

        /// Reads a header; nil where the line is not one.
        init?(header line: ArraySlice<UInt8>) {
            let names = line.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map {
                String(decoding: $0, as: UTF8.self).trimmed.lowercased()
            }
            guard names.contains("user"), names.contains("ap") else { return nil }
            func find(_ spellings: String...) -> Int { names.firstIndex { spellings.contains($0) } ?? -1 }
            day = find("day")
            time = find("t_s", "t", "time", "time_s")
            user = find("user")
            ap = find("ap")
            event = find("event", "kind")
            rssi = find("rssi_dbm", "rssi")
            guard time >= 0 else { return nil }
        }
    }

    var day: Range<Int>
    var time: Range<Int>
    var record: RoamingRecord

    /// Parses the line at `range` of `buffer`; nil where it is malformed.
    init?(_ buffer: [UInt8], _ range: Range<Int>, _ columns: Columns) {
        var fields: InlineArray<12, Range<Int>> = .init(repeating: 0..<0)
        var count = 0
        var start = range.lowerBound
        for place in range where buffer[place] == UInt8(ascii: ",") {
            if count < 12 { fields[count] = start..<place }
            count += 1
            start = place + 1
        }
        if count < 12 { fields[count] = start..<range.upperBound }
        count += 1
        guard count <= 12, max(columns.time, columns.user, columns.ap) < count else { return nil }
        func field(_ column: Int) -> Range<Int> {
            column >= 0 && column < count ? Self.trim(buffer, fields[column]) : 0..<0
        }
        day = field(columns.day)
        time = field(columns.time)
        let user = field(columns.user)
        let ap = field(columns.ap)
        guard let seconds = Self.number(buffer, time), abs(seconds) < 1e12, !user.isEmpty, !ap.isEmpty,
            user.count <= 256, ap.count <= 256
        else { return nil }
        var dayNumber: Int?
        if !day.isEmpty {
            guard let value = Self.number(buffer, day), value == value.rounded(), abs(value) < 1e7 else { return nil }
            dayNumber = Int(value)
        }
        let event = field(columns.event)
        guard let kind = event.isEmpty ? .roam : Self.kind(buffer, event) else { return nil }
        let strength = Self.number(buffer, field(columns.rssi)) ?? 0
        record = RoamingRecord(
            time: seconds,
            day: dayNumber,
            user: String(decoding: buffer[user], as: UTF8.self),
            ap: String(decoding: buffer[ap], as: UTF8.self),
            kind: kind,
            rssi: strength < 0 && strength > -200 ? Int(strength) : nil
        )
    }

    private static func kind(_ buffer: [UInt8], _ range: Range<Int>) -> RoamingKind? {
        switch buffer[range.lowerBound] | 0x20 {
        case UInt8(ascii: "r") where range.count == 4: .roam
        case UInt8(ascii: "s") where range.count == 5: .start
        case UInt8(ascii: "s") where range.count == 4: .stop
        default: nil
        }
    }

    private static func trim(_ buffer: [UInt8], _ range: Range<Int>) -> Range<Int> {
        var low = range.lowerBound
        var high = range.upperBound
        while low < high, buffer[low] <= 32 { low += 1 }
        while low < high, buffer[high - 1] <= 32 { high -= 1 }
        return low..<high
    }

    /// A decimal number; nil where it is something else.
    static func number(_ buffer: [UInt8], _ range: Range<Int>) -> Double? {
        guard !range.isEmpty, range.count <= 32 else { return nil }
        var place = range.lowerBound
        let negative = buffer[place] == UInt8(ascii: "-")
        if negative { place += 1 }
        var whole = 0.0
        var digits = 0
        while place < range.upperBound, buffer[place] >= 48, buffer[place] <= 57 {
            whole = whole * 10 + Double(buffer[place] - 48)
            digits += 1
            place += 1
        }
        if place < range.upperBound, buffer[place] == UInt8(ascii: ".") {
            place += 1
            var scale = 1.0
            var fraction = 0.0
            while place < range.upperBound, buffer[place] >= 48, buffer[place] <= 57 {
                fraction = fraction * 10 + Double(buffer[place] - 48)
                scale *= 10
                digits += 1
                place += 1
            }
            whole += fraction / scale
        }
        if place < range.upperBound {
            guard let value = Double(String(decoding: buffer[range], as: UTF8.self)), value.isFinite else { return nil }
            return value
        }
        guard digits > 0 else { return nil }
        return negative ? -whole : whole
    }
}

extension String {
    /// Without spaces, tabs, carriage returns and quotes at either end.
    var trimmed: String {
        var view = self[...]
        while let first = view.unicodeScalars.first, first.value <= 32 || first == "\"" || first.value == 0xfeff {
            view.unicodeScalars.removeFirst()
        }
        while let last = view.unicodeScalars.last, last.value <= 32 || last == "\"" { view.unicodeScalars.removeLast() }
        return String(view)
    }
}
