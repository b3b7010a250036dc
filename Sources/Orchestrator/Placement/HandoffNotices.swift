import Mobility

/// Tells the subscribers of this host of the hand-offs that leave it, as MEC 021 has it: triggered, completed, failed.
final class HandoffNotices: Sendable {
    private let queue: AsyncStream<EventRecord>.Continuation
    private let teller: Task<Void, Never>

    /// Notices of the events that are noted here, told in their order.
    init(store: any ClusterStore, tell: @escaping @Sendable (MobilityNotice) -> Void) {
        let (stream, queue) = AsyncStream.makeStream(of: EventRecord.self, bufferingPolicy: .bufferingOldest(1024))
        self.queue = queue
        teller = Task {
            for await event in stream {
                guard let notice = await Self.notice(of: event, store) else { continue }
                tell(notice)
            }
        }
    }

    /// Takes an event; those that are no hand-off's are none of ours.
    func note(_ event: EventRecord) {
        if Self.status(event) != nil { queue.yield(event) }
    }

    /// Ends once all that was noted is told.
    func close() async {
        queue.finish()
        await teller.value
    }

    private static func status(_ event: EventRecord) -> MobilityNotice.Status? {
        switch event.kind {
        case "handoff-started": .triggered
        case "resumed": .completed
        case "handoff-failed": .failed
        default: nil
        }
    }

    /// The notice with the addresses of SMI and target, as far as the store knows them.
    private static func notice(of event: EventRecord, _ store: any ClusterStore) async -> MobilityNotice? {
        guard let status = status(event), let user = event.user else { return nil }
        let address = (try? await store.record(of: user))?.record.spec.address
        var target: HostRecord?
        if let name = event.detail["to"], let entry = try? await store.get(HostRecord.key(name)) {
            target = try? decode(HostRecord.self, entry.value)
        }
        return MobilityNotice(
            status,
            time: event.at,
            user: user,
            ipv4: address?.ipv4,
            ipv6: address?.ipv6,
            target: target?.address ?? event.detail["to"]
        )
    }
}
