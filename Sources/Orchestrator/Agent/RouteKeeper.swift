import Isolation
import LinuxSystem
import Logging
import Synchronization

/// Keeps this host's routes to the SMIs of other hosts as the store says, and at once where a hand-off says.
package final class RouteKeeper: SMIRoutes {
    private let network = SandboxNetwork(filter: PacketFilter())
    private let host: String
    private let logger: Logger
    private let isHere: Mutex<@Sendable (String) async -> Bool>

    /// Keeps the routes of one host.
    package init(host: String, logger: Logger) {
        self.host = host
        self.logger = logger
        self.isHere = Mutex { _ in false }
    }

    /// Asks this before a route is set by the store's word: an SMI that has come back in the meantime has a route to its
    /// own link, which an older event must not replace.
    package func unless(_ isHere: @escaping @Sendable (String) async -> Bool) {
        self.isHere.withLock { $0 = isHere }
    }

    package func route(_ address: SandboxAddress, via owner: HostRecord) async {
        let network = network
        let gateways = [owner.address, owner.address6].compactMap { $0 }.compactMap(IPAddress.init)
        do {
            try await offload { try network.route(address, via: gateways) }
        } catch {
            logger.warning("route not set", metadata: ["address": "\(address.ipv4)", "error": "\(error)"])
        }
    }

    package func drop(_ address: SandboxAddress) async {
        guard let ipv4 = IPAddress(address.ipv4), let ipv6 = IPAddress(address.ipv6) else { return }
        for ip in [ipv4, ipv6] {
            // A route that is not there is what was wanted.
            _ = try? await offload {
                try NetlinkSocket(.route).perform([RouteMessages.deleteRoute(to: ip)], subject: ip.description)
            }
        }
    }

    /// Follows the store until cancelled.
    package func follow(_ store: any ClusterStore) async {
        while !Task.isCancelled {
            do {
                try await followOnce(store)
            } catch {
                logger.debug("routes wait for the store", metadata: ["error": "\(error)"])
                try? await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func followOnce(_ store: any ClusterStore) async throws {
        var hosts: [String: HostRecord] = [:]
        var known: [String: SMIRecord] = [:]
        for try await event in store.watch(prefix: SMIRecord.prefix) {
            switch event {
            case .snapshot(let entries, _):
                for entry in entries { try await apply(entry, &known, &hosts, store) }
            case .put(let entry):
                try await apply(entry, &known, &hosts, store)
            case .deleted(let key, _):
                // Its route is dropped only where it led elsewhere: a local link takes its route along.
                if let gone = known.removeValue(forKey: key), gone.host != host { await drop(gone.spec.address) }
            }
        }
    }

    private func apply(
        _ entry: StoreEntry,
        _ known: inout [String: SMIRecord],
        _ hosts: inout [String: HostRecord],
        _ store: any ClusterStore
    ) async throws {
        let record = try decode(SMIRecord.self, entry.value)
        let before = known.updateValue(record, forKey: entry.key)
        guard record.host != host, before?.host != record.host || before?.generation != record.generation else {
            return
        }
        if hosts[record.host] == nil, let entry = try await store.get(HostRecord.key(record.host)) {
            hosts[record.host] = try decode(HostRecord.self, entry.value)
        }
        let isHere = isHere.withLock { $0 }
        if await isHere(record.user) { return }
        if let owner = hosts[record.host] { await route(record.spec.address, via: owner) }
    }
}
