/// A set that forgets its oldest members instead of growing over a limit.
package struct BoundedSet<Element: Hashable & Sendable>: Sendable {
    private var members: Set<Element> = []
    private var order = Fifo<Element>()
    private let limit: Int

    /// `limit`: most members, at least 1.
    package init(limit: Int) {
        self.limit = max(1, limit)
    }

    package var count: Int { members.count }

    /// Adds a member; false where it was there already.
    package mutating func insert(_ element: Element) -> Bool {
        guard members.insert(element).inserted else { return false }
        order.append(element)
        if order.count > limit, let oldest = order.popFirst() { members.remove(oldest) }
        return true
    }
}

/// A queue with constant-time ends (amortised).
package struct Fifo<Element> {
    private var storage: [Element?] = []
    private var head = 0

    package init() {}

    package var count: Int { storage.count - head }
    package var isEmpty: Bool { head == storage.count }
    package var first: Element? { isEmpty ? nil : storage[head] }

    package mutating func append(_ element: Element) {
        storage.append(element)
    }

    package mutating func popFirst() -> Element? {
        guard !isEmpty else { return nil }
        let element = storage[head]
        storage[head] = nil
        head += 1
        if head == storage.count {
            storage.removeAll(keepingCapacity: storage.count <= 1024)
            head = 0
        } else if head >= 1024, head * 2 >= storage.count {
            storage.removeFirst(head)
            head = 0
        }
        return element
    }
}

extension Fifo: Sendable where Element: Sendable {}
