import Synchronization

extension RoamingSources {
    /// Opens every source and hands on what they say, unjudged and in batches, until the task is cancelled.
    ///
    /// For a host that does not decide: order, repetitions and flaps can only be judged where the events of all hosts
    /// come together. Names that this host's configuration knows are put in first. While the sink is slow, events wait,
    /// and over the limit sources refuse them in their own ways. Throws `RoamingError` where a socket cannot be opened.
    package func relay(to sink: @escaping @Sendable ([RoamingEvent]) async -> Void) async throws {
        // Only names of the configuration: the map is applied where the events go.
        let directory = try configuration.directory(accessPoints: [String]())
        try await serve { [intake] in
            let queue = RelayQueue()
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    while let batch = await queue.next() { await sink(batch) }
                }
                for await item in intake.items {
                    guard case .event(let event) = item, let event = directory.localised(event) else { continue }
                    await queue.put(event)
                }
                queue.finish()
            }
        }
    }
}

extension RoamingDirectory {
    /// The event with what this directory knows of its device and access point; nil where the device is not the one that
    /// its user is followed by.
    func localised(_ event: RoamingEvent) -> RoamingEvent? {
        var event = event
        if case .known(let name)? = accessPoint(event.ap), event.ap.first != name { event.ap.insert(name, at: 0) }
        if let user = event.station.flatMap({ user(ofStation: $0) }) {
            event.userName = user
        } else if let told = event.userName.flatMap(Self.user(fromIdentity:)), isPinned(told), event.station != nil {
            return nil
        }
        return event
    }
}

/// Events between the one task that reads the sources and the one that sends them: taken many at a time, and bounded.
final class RelayQueue: Sendable {
    private struct State {
        var events: [RoamingEvent] = []
        var reader: CheckedContinuation<Void, Never>?
        var writer: CheckedContinuation<Void, Never>?
        var isFinished = false
    }

    private let state = Mutex(State())
    private let limit: Int
    private let batch: Int

    /// Holds up to `limit` events and hands out at most `batch` at once.
    init(limit: Int = 1024, batch: Int = 256) {
        self.limit = limit
        self.batch = batch
    }

    /// Adds an event; waits while the queue is full.
    func put(_ event: RoamingEvent) async {
        await withCheckedContinuation { writer in
            let (reader, goesOn) = state.withLock { state in
                state.events.append(event)
                defer { state.reader = nil }
                if state.events.count < limit { return (state.reader, true) }
                state.writer = writer
                return (state.reader, false)
            }
            reader?.resume()
            if goesOn { writer.resume() }
        }
    }

    /// Takes what is there, waiting for the first; nil once the queue is finished and empty.
    func next() async -> [RoamingEvent]? {
        await withCheckedContinuation { reader in
            let isReady = state.withLock { state in
                if !state.events.isEmpty || state.isFinished { return true }
                state.reader = reader
                return false
            }
            if isReady { reader.resume() }
        }
        let (taken, writer) = state.withLock { state in
            let taken = Array(state.events.prefix(batch))
            state.events.removeFirst(taken.count)
            guard state.events.count < limit else { return (taken, CheckedContinuation<Void, Never>?.none) }
            defer { state.writer = nil }
            return (taken, state.writer)
        }
        writer?.resume()
        return taken.isEmpty ? nil : taken
    }

    /// Lets the reader end after what is there.
    func finish() {
        let reader = state.withLock { state in
            state.isFinished = true
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume()
    }
}
