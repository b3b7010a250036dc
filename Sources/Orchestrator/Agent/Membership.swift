import Foundation
import LinuxSystem

/// Which cluster a host belongs to and where its store is; written by `cluster init` and `host join`.
package struct Membership: Codable, Sendable, Equatable {
    /// This host.
    package var host: HostRecord
    /// Port where hosts that join are enrolled, on the host that keeps the CA's key.
    package var enrolmentPort: Int
    /// The host that opens the store and serves it to the others.
    package var store: HostRecord

    /// The port of the peer service unless another one was given.
    package static let peerPort = 7470
    /// The port of the enrolment service unless another one was given.
    package static let enrolmentPort = 7471

    /// A host's place in its cluster.
    package init(host: HostRecord, enrolmentPort: Int = Membership.enrolmentPort, store: HostRecord) {
        self.host = host
        self.enrolmentPort = enrolmentPort
        self.store = store
    }

    /// Whether this host opens the store itself.
    package var servesStore: Bool { host.name == store.name }

    /// Directory of keys and certificates.
    package static func directory(_ paths: HostPaths) -> String { paths.state + "/pki" }

    private static func path(_ paths: HostPaths) -> String { directory(paths) + "/membership.json" }

    /// Reads the host's membership.
    ///
    /// - Throws: `notAMember` where the host has joined no cluster.
    package static func load(_ paths: HostPaths) throws -> Membership {
        guard let data = FileManager.default.contents(atPath: path(paths)) else {
            throw OrchestratorError(
                .notAMember,
                cause: "this host belongs to no cluster",
                remedy: "found one with `smirun cluster init`, or join one with `smirun host join TOKEN`"
            )
        }
        return try decode(Membership.self, Array(data))
    }

    /// Whether the host has joined a cluster.
    package static func exists(_ paths: HostPaths) -> Bool {
        FileManager.default.fileExists(atPath: path(paths))
    }

    /// Writes the host's membership, as the last step of joining.
    package func save(_ paths: HostPaths) throws {
        try PrivateFile.write(Self.path(paths), String(decoding: Orchestrator.encode(self), as: UTF8.self))
    }
}
