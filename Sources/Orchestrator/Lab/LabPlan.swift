/// The rate of a link: so many bits per second, or as fast as the machine can.
package struct LinkRate: Sendable, Equatable, CustomStringConvertible {
    /// Nil: not shaped.
    package let bitsPerSecond: Int64?

    /// A link that is not shaped.
    package static let unshaped = LinkRate(bitsPerSecond: nil)

    private init(bitsPerSecond: Int64?) {
        self.bitsPerSecond = bitsPerSecond
    }

    /// Reads `50mbit`, `1gbit`, `800kbit`, `9600bit` or `none`.
    package init(parsing text: String) throws(LabError) {
        if text == "none" {
            self = .unshaped
            return
        }
        let units: [(suffix: String, factor: Double)] = [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9), ("bit", 1)]
        guard let unit = units.first(where: { text.lowercased().hasSuffix($0.suffix) }),
            let value = Double(text.dropLast(unit.suffix.count)),
            value.isFinite, value * unit.factor >= 8000, value * unit.factor <= 100e9
        else {
            throw LabError(
                .badArgument,
                cause: "'\(text)' is no rate for a link",
                remedy: "give a rate from 8kbit to 100gbit, such as 50mbit, or none"
            )
        }
        bitsPerSecond = Int64(value * unit.factor)
    }

    /// `50mbit`, `none`.
    package var description: String {
        guard let bitsPerSecond else { return "none" }
        for (suffix, factor) in [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000)] as [(String, Int64)]
        where bitsPerSecond % factor == 0 {
            return "\(bitsPerSecond / factor)\(suffix)"
        }
        return "\(bitsPerSecond)bit"
    }

    /// tc(8)'s token bucket filter for this rate; the burst grows with the rate, as the kernel refills at timer ticks.
    var queueDiscipline: String? {
        guard let bitsPerSecond else { return nil }
        return "tbf rate \(bitsPerSecond)bit burst \(max(32768, bitsPerSecond / 8 / 250))b latency 50ms"
    }
}

extension LinkRate: Codable {
    package init(from decoder: any Decoder) throws {
        try self.init(parsing: decoder.singleValueContainer().decode(String.self))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// What a lab is made of: the arguments of `smirun lab up`.
package struct LabPlan: Codable, Sendable, Equatable {
    /// Number of hosts, 1 to 50.
    package var hosts: Int
    /// Metres between neighbouring access points, one per host.
    package var spacing: Double
    /// Rate of each host's link, each way.
    package var rate: LinkRate
    /// One-way delay that each host's link adds, milliseconds.
    package var delay: Double

    /// A plan; refuses what cannot be built.
    package init(
        hosts: Int = 3,
        spacing: Double = 100,
        rate: LinkRate,
        delay: Double = 0
    ) throws(LabError) {
        guard (1...50).contains(hosts) else {
            throw LabError(
                .badArgument,
                cause: "a lab of \(hosts) hosts cannot be made",
                remedy: "give --hosts a number from 1 to 50"
            )
        }
        guard spacing.isFinite, spacing > 0, spacing <= 1_000_000 else {
            throw LabError(
                .badArgument,
                cause: "access points cannot be \(spacing) m apart",
                remedy: "give --spacing a distance in metres, such as 100"
            )
        }
        guard delay.isFinite, delay >= 0, delay <= 10_000 else {
            throw LabError(
                .badArgument,
                cause: "a link cannot be delayed by \(delay) ms",
                remedy: "give --delay a time from 0ms to 10s, such as 20ms"
            )
        }
        self.hosts = hosts
        self.spacing = spacing
        self.rate = rate
        self.delay = delay
    }

    /// Reads a delay, `20ms`, `1.5s` or `0`, as milliseconds.
    package static func delay(parsing text: String) throws(LabError) -> Double {
        let units: [(suffix: String, factor: Double)] = [("ms", 1), ("us", 0.001), ("s", 1000), ("", 1)]
        for unit in units where text.hasSuffix(unit.suffix) {
            guard let value = Double(text.dropLast(unit.suffix.count)), unit.suffix != "" || value == 0 else { break }
            return value * unit.factor
        }
        throw LabError(
            .badArgument,
            cause: "'\(text)' is no delay",
            remedy: "give a time with its unit, such as 20ms"
        )
    }

    /// `3 hosts, 100 m apart, links of 50mbit`.
    package var summary: String {
        let count = hosts == 1 ? "1 host" : "\(hosts) hosts, \(Self.plain(spacing)) m apart"
        let shape = rate.bitsPerSecond == nil ? "unshaped links" : "links of \(rate)"
        return count + ", " + shape + (delay > 0 ? ", delayed by \(Self.plain(delay)) ms" : "")
    }

    static func plain(_ value: Double) -> String {
        value == value.rounded() ? String(Int64(value)) : String(value)
    }
}
