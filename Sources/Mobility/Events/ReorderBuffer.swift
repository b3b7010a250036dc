/// Holds events for a while so that they leave in the order of their times, whatever order they came in.
///
/// An event leaves `window` seconds after it came, and everything with an earlier time leaves before it. The buffer is
/// bounded: over its limit the longest held event leaves early.
package struct ReorderBuffer: Sendable {
    private struct Held: Sendable {
        let event: RoamingEvent
        let sequence: Int
    }

    private let window: Double
    private let limit: Int
    private var heap: [Held] = []
    private var arrivals = Fifo<(sequence: Int, due: Double)>()
    private var left: Set<Int> = []
    private var sequence = 0

    /// `window`: seconds; 0 lets every event pass at once.
    ///
    /// `limit`: most events held.
    package init(window: Double, limit: Int) {
        self.window = window
        self.limit = max(1, limit)
    }

    package var count: Int { heap.count }

    /// When the next event leaves, by our clock.
    package var due: Double? { arrivals.first?.due }

    /// Takes an event; returns what leaves at once and whether that was for want of room.
    package mutating func push(_ event: RoamingEvent, now: Double) -> (out: [RoamingEvent], overflowed: Bool) {
        guard window > 0 else { return ([event], false) }
        sequence += 1
        insert(Held(event: event, sequence: sequence))
        arrivals.append((sequence, now + window))
        guard heap.count > limit, let oldest = arrivals.popFirst() else { return ([], false) }
        return (release(through: oldest.sequence), true)
    }

    /// What leaves by `now`, in order.
    package mutating func pop(now: Double) -> [RoamingEvent] {
        var out: [RoamingEvent] = []
        while let next = arrivals.first, next.due <= now {
            _ = arrivals.popFirst()
            out += release(through: next.sequence)
        }
        return out
    }

    /// Everything, in order.
    package mutating func drain() -> [RoamingEvent] {
        pop(now: .infinity)
    }

    /// Pops the heap until the event with this number is out.
    private mutating func release(through sequence: Int) -> [RoamingEvent] {
        if left.remove(sequence) != nil {
            dropLeft()
            return []
        }
        var out: [RoamingEvent] = []
        while let held = popMinimum() {
            out.append(held.event)
            if held.sequence == sequence { break }
            left.insert(held.sequence)
        }
        dropLeft()
        return out
    }

    /// Forgets arrivals whose events have left already.
    private mutating func dropLeft() {
        while let next = arrivals.first, left.remove(next.sequence) != nil { _ = arrivals.popFirst() }
    }

    // MARK: a binary heap by (time, sequence)

    private func precedes(_ first: Int, _ second: Int) -> Bool {
        let (first, second) = (heap[first], heap[second])
        return (first.event.time, first.sequence) < (second.event.time, second.sequence)
    }

    private mutating func insert(_ held: Held) {
        heap.append(held)
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func popMinimum() -> Held? {
        guard !heap.isEmpty else { return nil }
        heap.swapAt(0, heap.count - 1)
        let minimum = heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && precedes(child, least) {
                least = child
            }
            guard least != parent else { return minimum }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
