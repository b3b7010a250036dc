#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// One line of a trace or of `POST /roam`: who, where, and if known when and what.
package struct RoamLine: Sendable, Hashable {
    package var user: String
    package var ap: String
    /// Seconds since the epoch, or of `day`; nil for now.
    package var time: Double?
    package var day: Int?
    package var kind: RoamingKind
    package var station: String?
    package var rssi: Int?

    package init(
        user: String,
        ap: String,
        time: Double? = nil,
        day: Int? = nil,
        kind: RoamingKind = .roam,
        station: String? = nil,
        rssi: Int? = nil
    ) {
        self.user = user
        self.ap = ap
        self.time = time
        self.day = day
        self.kind = kind
        self.station = station
        self.rssi = rssi
    }

    /// Seconds on one time line.
    package var absoluteTime: Double? { time.map { Double(day ?? 0) * 86_400 + $0 } }

    /// The line as an event.
    package func event(received: Double) -> RoamingEvent {
        RoamingEvent(
            kind: kind == .stop ? .disassociated : .associated,
            time: absoluteTime ?? received,
            received: received,
            day: day,
            station: station.map { MACAddress($0)?.description ?? $0 },
            userName: user,
            ap: [ap],
            rssi: rssi,
            source: .line
        )
    }

    /// Most bytes of a line.
    package static let maximumLength = 4096

    /// Reads `{"user":"ann","ap":"north","t":12.5,"event":"roam"}`; `time`, `t` and `t_s` are the same, so are `event`
    /// and `kind`, and `rssi` and `rssi_dbm`.
    ///
    /// Nil where it is no such line.
    package init?(json line: some Collection<UInt8>) {
        guard line.count <= Self.maximumLength,
            let members = try? JSONDecoder().decode(Members.self, from: Data(line))
        else { return nil }
        self.init(
            checking: members.user,
            members.ap,
            time: members.time ?? members.t ?? members.t_s,
            day: members.day,
            event: members.event ?? members.kind,
            station: members.station,
            rssi: members.rssi ?? members.rssi_dbm
        )
    }

    private struct Members: Decodable {
        var user: String
        var ap: String
        var time: Double?
        var t: Double?
        var t_s: Double?
        var day: Int?
        var event: String?
        var kind: String?
        var station: String?
        var rssi: Double?
        var rssi_dbm: Double?
    }

    /// The common checks: names that are names and numbers that are in range.
    init?(
        checking user: String,
        _ ap: String,
        time: Double?,
        day: Int?,
        event: String?,
        station: String?,
        rssi: Double?
    ) {
        guard RoamingDirectory.isUser(user), (1...128).contains(ap.utf8.count), (station ?? "").utf8.count <= 128 else {
            return nil
        }
        guard (-1e11...1e11).contains(time ?? 0), (0...1_000_000).contains(day ?? 0), (-200...100).contains(rssi ?? 0)
        else {
            return nil
        }
        guard let kind = RoamingKind(rawValue: event ?? RoamingKind.roam.rawValue) else { return nil }
        self.init(
            user: user,
            ap: ap,
            time: time,
            day: day,
            kind: kind,
            station: station,
            rssi: rssi.map { Int($0.rounded()) }
        )
    }
}

/// Reads lines of CSV (with a header) or JSON, told apart by the first character.
package struct RoamLineParser: Sendable {
    private enum Format: Sendable {
        case undecided
        case json
        case csv([String: Int])
        /// A header without a user or an access point: nothing can be read.
        case unusable
    }

    private var format = Format.undecided
    /// Lines that were no records.
    package private(set) var malformed = 0

    package init() {}

    /// Whether the header names no user and access point, so that no line will be read.
    package var isUnusable: Bool { if case .unusable = format { true } else { false } }

    /// Reads one line without its end; nil for the header, empty lines and what is malformed.
    package mutating func parse(_ line: some Collection<UInt8>) -> RoamLine? {
        var line = Array(line)
        while let last = line.last, last == 0x0d || last == 0x20 || last == 0x0a { line.removeLast() }
        if line.starts(with: [0xef, 0xbb, 0xbf]) { line.removeFirst(3) }
        guard let first = line.first else { return nil }
        switch format {
        case .undecided:
            guard first != UInt8(ascii: "{") else {
                format = .json
                return read(json: line)
            }
            readHeader(line)
            return nil
        case .json:
            return read(json: line)
        case .csv(let columns):
            return read(csv: line, columns)
        case .unusable:
            malformed += 1
            return nil
        }
    }

    private mutating func readHeader(_ line: [UInt8]) {
        let names = Self.fields(line).map { String(decoding: $0, as: UTF8.self).lowercased() }
        let columns = Dictionary(zip(names, names.indices), uniquingKeysWith: { first, _ in first })
        guard columns["user"] != nil, columns["ap"] != nil else {
            malformed += 1
            format = .unusable
            return
        }
        format = .csv(columns)
    }

    private mutating func read(json line: [UInt8]) -> RoamLine? {
        guard let read = RoamLine(json: line) else {
            malformed += 1
            return nil
        }
        return read
    }

    private mutating func read(csv line: [UInt8], _ columns: [String: Int]) -> RoamLine? {
        let fields = Self.fields(line)
        func field(_ names: String...) -> String? {
            for name in names {
                if let index = columns[name], index < fields.count, !fields[index].isEmpty {
                    return String(decoding: fields[index], as: UTF8.self)
                }
            }
            return nil
        }
        func number(_ text: String?) -> Double?? {
            guard let text else { return .some(nil) }
            return Double(text).map { .some($0) }
        }
        guard line.count <= RoamLine.maximumLength, let user = field("user"), let ap = field("ap"),
            let time = number(field("t_s", "t", "time")), let rssi = number(field("rssi_dbm", "rssi")),
            let day = number(field("day")),
            let read = RoamLine(
                checking: user,
                ap,
                time: time,
                day: day.map { Int(exactly: $0) ?? -1 },
                event: field("event", "kind"),
                station: field("station"),
                rssi: rssi
            )
        else {
            malformed += 1
            return nil
        }
        return read
    }

    /// Fields without quoting: names with commas are no names here.
    private static func fields(_ line: [UInt8]) -> [ArraySlice<UInt8>] {
        line.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    }
}
