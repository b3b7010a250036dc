import GRPCCore

/// How a daemon names itself to others: versions, host, build, cluster.
package struct Greeting: Sendable, Equatable {
    package var protocolVersion: ProtocolVersion
    /// The host's name; empty for a command line.
    package var host: String
    /// The version of the build, for messages only.
    package var build: String
    /// Fingerprint of the cluster's authority; empty for a command line.
    package var cluster: String

    /// Who we are.
    package init(
        host: String,
        build: String,
        cluster: String,
        protocolVersion: ProtocolVersion = .current
    ) {
        self.host = host
        self.build = build
        self.cluster = cluster
        self.protocolVersion = protocolVersion
    }

    /// From the wire.
    package init(_ hello: Smirun_V1_PeerHello) {
        self.init(
            host: hello.host,
            build: hello.build,
            cluster: hello.cluster,
            protocolVersion: ProtocolVersion(hello.protocol)
        )
    }

    /// For the wire.
    package var message: Smirun_V1_PeerHello {
        .with {
            $0.protocol = protocolVersion.message
            $0.host = host
            $0.build = build
            $0.cluster = cluster
        }
    }
}

/// Answers greetings; part of every server.
struct GreetingService: Smirun_V1_Greeting.SimpleServiceProtocol {
    let own: Greeting

    /// Answers with our versions even where they do not fit: the caller then names both in its error.
    func hello(request: Smirun_V1_PeerHello, context: ServerContext) async throws -> Smirun_V1_PeerHello {
        own.message
    }
}
