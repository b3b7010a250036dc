/// Where sources put their events: a bounded queue with one reader.
///
/// A full queue refuses, it never grows and never blocks an event loop; what a refusal means is the source's affair
/// (RADIUS keeps silent, so that the peer repeats).
package struct EventIntake: Sendable {
    /// What travels: an event, or the tick that lets time pass.
    package enum Item: Sendable {
        case event(RoamingEvent)
        case tick(Double)
    }

    /// The reading end.
    package let items: AsyncStream<Item>
    private let continuation: AsyncStream<Item>.Continuation

    /// `limit`: most items waiting.
    package init(limit: Int = 16_384) {
        (items, continuation) = AsyncStream.makeStream(of: Item.self, bufferingPolicy: .bufferingOldest(max(1, limit)))
    }

    /// Offers an event; false where the queue is full or closed.
    package func offer(_ event: RoamingEvent) -> Bool {
        if case .enqueued = continuation.yield(.event(event)) { true } else { false }
    }

    /// Lets time pass up to `now` (seconds since the epoch).
    package func tick(_ now: Double) {
        continuation.yield(.tick(now))
    }

    /// Ends the stream for the reader after what is queued.
    package func finish() {
        continuation.finish()
    }
}
