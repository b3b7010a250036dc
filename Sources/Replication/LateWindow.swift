import BackingStore

/// How many bytes of late pages may be on their way, so that the link is busy and a page that is waited for is not held up.
///
/// What the link carries in one round trip, and one frame that is leaving, keep it busy; more only makes pages wait. Frames of
/// pages that have hardly changed are small, but each is work for both hosts: their number is limited, too. Pure.
struct LateWindow: Sendable {
    /// A round trip that was not measured, seconds.
    private static let unmeasured = 0.001
    private static let bounds = 0.0002...1.0
    /// A measured round trip that is never reached again is forgotten so fast, a frame.
    private static let forgetting = 1.002

    /// Bytes a second.
    private let rate: Double
    private var roundTrip: Double?
    /// Frames without an answer, and when they have left, as far as the rate says.
    private var underWay: [(bytes: Int, left: Double)] = []
    private var queue = 0
    private var free = -Double.infinity

    /// A window on a link of that rate, bytes a second.
    init(bytesPerSecond: Double) {
        rate = bytesPerSecond
    }

    /// What the link carries in one round trip, bytes.
    private var pipe: Double { rate * (roundTrip ?? Self.unmeasured) }

    /// Pages in one frame: so many that half a round trip carries them.
    var framePages: Int { min(ProcessMemoryReader.batch, max(1, Int(pipe / 2) / PageStore.pageSize)) }

    /// Bytes of a frame of which no page could be made smaller.
    private var wholeFrame: Double { Double(framePages * PageStore.pageSize) }

    /// Whether one more frame that nobody waits for may be sent.
    var hasRoom: Bool { Double(queue) < pipe + wholeFrame && underWay.count < Int(pipe / wholeFrame) + 2 }

    /// A frame has left, at a time in seconds.
    mutating func sent(_ bytes: Int, at time: Double) {
        queue += bytes
        free = max(free, time) + Double(bytes) / rate
        underWay.append((bytes, free))
    }

    /// The answer to the oldest frame has come.
    mutating func took(at time: Double) {
        guard !underWay.isEmpty else { return }
        let frame = underWay.removeFirst()
        queue -= frame.bytes
        // What is not the link's own work is the way there and back.
        let measured = time - frame.left
        let known = roundTrip.map { min(measured, $0 * Self.forgetting) } ?? measured
        roundTrip = min(max(known, Self.bounds.lowerBound), Self.bounds.upperBound)
    }
}
