import BackingStore

/// How many bytes of late pages may be on their way, so that the link is busy and a page that is waited for is not held up.
///
/// A queue of what the link carries in one round trip keeps it busy; a longer one only makes pages wait. Pure.
struct LateWindow: Sendable {
    /// A round trip that was not measured, seconds.
    private static let unmeasured = 0.001
    private static let bounds = 0.0002...1.0
    /// A measured round trip that is never reached again is forgotten so fast, a frame.
    private static let forgetting = 1.05

    /// Bytes a second.
    private let rate: Double
    private var roundTrip: Double?
    private var underWay: [(bytes: Int, sent: Double, queue: Int)] = []
    private var queue = 0

    /// A window on a link of that rate, bytes a second.
    init(bytesPerSecond: Double) {
        rate = bytesPerSecond
    }

    /// What the link carries in one round trip, bytes.
    private var pipe: Double { rate * (roundTrip ?? Self.unmeasured) }

    /// Pages in one frame: so many that half a round trip carries them.
    var framePages: Int { min(ProcessMemoryReader.batch, max(1, Int(pipe / 2) / PageStore.pageSize)) }

    /// Whether one more frame that nobody waits for may be sent.
    var hasRoom: Bool { Double(queue) < max(pipe, Double(PageStore.pageSize)) }

    /// Frames that no answer has come to.
    var isEmpty: Bool { underWay.isEmpty }

    /// A frame has left, at a time in seconds.
    mutating func sent(_ bytes: Int, at time: Double) {
        queue += bytes
        underWay.append((bytes, time, queue))
    }

    /// The answer to the oldest frame has come.
    mutating func took(at time: Double) {
        guard !underWay.isEmpty else { return }
        let frame = underWay.removeFirst()
        queue -= frame.bytes
        // What is not the link's own work is the way there and back.
        let measured = time - frame.sent - Double(frame.queue) / rate
        let known = roundTrip.map { min(measured, $0 * Self.forgetting) } ?? measured
        roundTrip = min(max(known, Self.bounds.lowerBound), Self.bounds.upperBound)
    }
}
