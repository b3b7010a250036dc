import Isolation
import LinuxSystem

extension HostAgent {
    /// Where a connection to an SMI's init has to be made.
    package enum SessionPlace: Sendable {
        /// On this host: connected and authenticated.
        case here(Descriptor)
        /// On that host, by its daemon.
        case there(HostRecord)
    }

    /// Connects to an SMI's init where it is on this host and says which host has it otherwise.
    ///
    /// Waits until a hand-off, a launch or an adoption has ended: the answer holds for a settled SMI.
    package func connectSession(_ user: String, limit: Duration = .seconds(120)) async throws -> SessionPlace {
        let deadline = ContinuousClock.now + limit
        while true {
            try await settled(user, until: deadline)
            guard let (record, _) = try await around.store.record(of: user) else { throw Self.unknown(user) }
            guard record.state != .stopped else { throw Self.stopped(user) }
            if record.host != host {
                guard let entry = try await around.store.get(HostRecord.key(record.host)) else {
                    throw Self.elsewhere(record)
                }
                return .there(try decode(HostRecord.self, entry.value))
            }
            // Between the settled state and here another activity may have begun: then wait again.
            guard activity(user) == nil else { continue }
            guard running[user] != nil else { throw Self.stopped(user) }
            return .here(try await connect(record))
        }
    }

    private func connect(_ record: SMIRecord) async throws -> Descriptor {
        let endpoint = InitEndpoint(address: record.spec.address.ipv4, secret: record.spec.secret)
        connecting[record.user, default: 0] += 1
        defer {
            connecting[record.user, default: 1] -= 1
            if connecting[record.user] == 0 {
                connecting[record.user] = nil
                for waiter in connectWaiters.removeValue(forKey: record.user) ?? [] { waiter.resume() }
            }
        }
        return try await offload { try InitConnection.connect(endpoint) }
    }

    /// Ends every connection to an SMI's init, after those that are being made: none is in the dump that follows.
    func closeSessions(_ record: SMIRecord) async {
        while connecting[record.user] != nil {
            await withCheckedContinuation { connectWaiters[record.user, default: []].append($0) }
        }
        await around.sessions.closeAll(record.spec)
    }
}
