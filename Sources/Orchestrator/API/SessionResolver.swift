import Isolation
import LinuxSystem
import Synchronization

/// Gets the connections that the session socket hands out: to smi-init on this host, or relayed to the owner's.
struct SessionResolver: SessionResolving {
    let agent: HostAgent
    let relay: SessionRelay
    let peers: PeerNetwork

    func connect(_ user: String) async throws -> Descriptor {
        do {
            while true {
                switch try await agent.connectSession(user) {
                case .here(let descriptor): return descriptor
                case .there(let host):
                    do {
                        return try await relay.open(user, through: peers.connection(host))
                    } catch let error as OrchestratorError where error.code == .notRunning {
                        // It moved between our look at the store and the owner's: look again, unless it is stopped.
                        if try await agent.around.store.record(of: user)?.record.state == .stopped { throw error }
                    }
                }
                try Task.checkCancellation()
            }
        } catch let error as IsolationError {
            throw error
        } catch {
            let error = OrchestratorError(wrapping: error)
            throw IsolationError(await code(of: error, user), cause: error.cause, remedy: error.remedy)
        }
    }

    /// The error's code as sessions understand it: one whose SMI is gone or stopped does not wait for it to come back.
    private func code(of error: OrchestratorError, _ user: String) async -> IsolationError.Code {
        switch error.code {
        case .userUnknown: .sandboxUnknown
        case .notRunning where (try? await agent.around.store.record(of: user)?.record.state) == .stopped: .sandboxDead
        default: IsolationError.Code(rawValue: error.code.rawValue)
        }
    }

    func endpoint(_ user: String) async -> InitEndpoint? {
        guard let record = try? await agent.ownedRecord(user) else { return nil }
        return InitEndpoint(address: record.spec.address.ipv4, secret: record.spec.secret)
    }
}

/// The session socket's broker as the agent sees it; the broker is made after the agent, which resolves for it.
final class BrokerGate: SessionGate {
    private let broker = Mutex<SessionBroker?>(nil)

    func use(_ broker: SessionBroker) {
        self.broker.withLock { $0 = broker }
    }

    func closeAll(_ spec: SandboxSpec) async {
        let endpoint = InitEndpoint(address: spec.address.ipv4, secret: spec.secret)
        if let broker = broker.withLock({ $0 }) { return await broker.closeAll(spec.user, at: endpoint) }
        // What an earlier daemon gave away.
        try? await offload { try InitConnection.quiesce(endpoint) }
    }
}
