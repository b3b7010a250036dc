/// What a link carried while it was kept busy.
struct LinkSample: Sendable, Equatable {
    /// Bytes a second.
    let rate: Double
    /// The sender could not keep the link busy: it carries as much at least.
    let isLowerBound: Bool
}

/// Measures what a link carries by the answers to frames that follow one another without a pause.
///
/// The first answer of such a train tells when the link was at it; what came after it took the time between that answer and a later
/// one, whatever the round trip is (packet trains: Jain and Routhier 1986, and BBR's delivery rate). Pure.
struct LinkMeter: Sendable {
    /// A longer part of a train is a figure of its own, seconds.
    private static let longEnough = 0.05
    /// Bytes that a figure is made of, at least: of fewer, chance decides.
    private static let smallest = 64 << 10
    /// The same where the train ends before it was long enough.
    private static let smallestWhole = 256 << 10

    private struct Frame {
        let bytes: Int
        let isFirst: Bool
        /// Nothing was on its way when it left: the link has waited for it.
        let wasAwaited: Bool
    }

    private struct Train {
        var start: Double
        var bytes = 0
        var isLowerBound = false
    }

    private var underWay: [Frame] = []
    private var begins = true
    private var train: Train?

    /// A frame leaves.
    mutating func sent(_ bytes: Int) {
        underWay.append(Frame(bytes: bytes, isFirst: begins, wasAwaited: underWay.isEmpty))
        begins = false
    }

    /// The sender waits on purpose: the next frame begins another train.
    mutating func paused() {
        begins = true
    }

    /// The answer to the oldest frame has come, at a time in seconds; returns a figure where there is one.
    mutating func took(at time: Double) -> LinkSample? {
        guard !underWay.isEmpty else { return nil }
        let frame = underWay.removeFirst()
        guard !frame.isFirst, var now = train else {
            train = Train(start: time)
            return nil
        }
        now.bytes += frame.bytes
        now.isLowerBound = now.isLowerBound || frame.wasAwaited
        let elapsed = time - now.start
        let isLast = underWay.first?.isFirst ?? true
        let isEnough =
            now.bytes >= Self.smallest && elapsed >= Self.longEnough || isLast && now.bytes >= Self.smallestWhole
        guard isEnough, elapsed > 0 else {
            train = now
            return nil
        }
        train = Train(start: time)
        return LinkSample(rate: Double(now.bytes) / elapsed, isLowerBound: now.isLowerBound)
    }
}

/// The speed of the links to other hosts, as transfers have measured it.
package actor LinkRates {
    /// What a link is taken for until it was measured: that of the paper, 50 Mbit/s.
    package static let unmeasured = 6.25e6
    /// One figure may be chance: the middle one of so many counts.
    private static let kept = 5
    /// A link is measured again after so long, seconds; at once where the last figure was this much above what was known.
    private static let everySeconds = 5.0
    private static let surprise = 1.25

    private struct Link {
        var rates: [Double] = []
        var nextProbe = -Double.infinity
        var rate: Double? { rates.isEmpty ? nil : rates.sorted()[rates.count / 2] }
    }

    private var links: [String: Link] = [:]

    /// Nothing has been measured.
    package init() {}

    /// Bytes a second to a host.
    package func rate(to host: String) -> Double { links[host]?.rate ?? Self.unmeasured }

    /// Whether it is time to keep the link busy for a moment, to see what it carries; says so once.
    func takeProbe(of host: String, at time: Double) -> Bool {
        guard time >= links[host, default: Link()].nextProbe else { return false }
        links[host, default: Link()].nextProbe = time + Self.everySeconds
        return true
    }

    /// Takes in what a link has carried.
    func observed(_ sample: LinkSample, to host: String) {
        var link = links[host, default: Link()]
        defer { links[host] = link }
        let known = link.rate ?? Self.unmeasured
        guard !sample.isLowerBound || sample.rate > known else { return }
        // What a link is found to carry more than was tried so far may be less than it carries.
        if sample.rate > known * Self.surprise { link.nextProbe = -Double.infinity }
        link.rates = link.rates.suffix(Self.kept - 1) + [sample.rate]
    }
}
