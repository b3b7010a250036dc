import Foundation
import Logging
import Synchronization

/// Writes what happens to the store, off every critical path: events queue here and a task of their own writes them.
package final class EventLog: Sendable {
    private let queue: AsyncStream<EventRecord>.Continuation
    private let writer: Task<Void, Never>
    private let host: String
    private let observer = Mutex<(@Sendable (EventRecord) -> Void)?>(nil)

    /// How many events the store keeps.
    package static let kept = 2000

    /// A log of one host's events.
    package init(host: String, store: any ClusterStore, logger: Logger) {
        self.host = host
        let (stream, continuation) = AsyncStream.makeStream(
            of: EventRecord.self,
            bufferingPolicy: .bufferingOldest(10_000)
        )
        self.queue = continuation
        self.writer = Task {
            var sequence = 0
            for await event in stream {
                sequence += 1
                await Self.write(event, sequence: sequence, store: store, logger: logger)
            }
        }
    }

    /// Notes an event; returns at once.
    package func note(_ kind: String, user: String? = nil, _ detail: [String: String] = [:]) {
        let event = EventRecord(at: secondsSince1970(), host: host, user: user, kind: kind, detail: detail)
        queue.yield(event)
        observer.withLock { $0 }?(event)
    }

    /// Tells of every event from now on, at once; `observer` must not wait.
    package func observe(_ observer: @escaping @Sendable (EventRecord) -> Void) {
        self.observer.withLock { $0 = observer }
    }

    /// Ends the log once all that was noted is written.
    package func close() async {
        queue.finish()
        await writer.value
    }

    private static func write(
        _ event: EventRecord,
        sequence: Int,
        store: any ClusterStore,
        logger: Logger
    ) async {
        // Keys sort by time, then by host and order of writing.
        let stamp = String(format: "%015.0f", event.at * 1000)
        let key = EventRecord.prefix + "\(stamp)-\(event.host)-\(String(format: "%06d", sequence))"
        do {
            try await store.write(key, event, expect: .any)
            if sequence % 100 == 0 { try await prune(store) }
        } catch {
            logger.warning("event not recorded", metadata: ["kind": "\(event.kind)", "error": "\(error)"])
        }
    }

    private static func prune(_ store: any ClusterStore) async throws {
        let entries = try await store.list(prefix: EventRecord.prefix)
        for entry in entries.dropLast(kept) { try await store.delete(entry.key, expect: .any) }
    }
}

/// The wall clock, seconds since 1970.
package func secondsSince1970() -> Double {
    Date().timeIntervalSince1970
}
