/// An SMI's addresses.
package struct AddressesView: Codable, Sendable, Equatable {
    package var ipv4: String
    package var ipv6: String
    package var mac: String
}

/// An SMI as `smirun ls` and `smirun inspect` show it.
package struct SMIView: Codable, Sendable {
    package var user: String
    package var host: String
    package var generation: Int
    /// `running`, `frozen`, `moving`, `launching`, `stopped` or `unreachable`.
    package var state: String
    package var addresses: AddressesView
    /// Digest of the base image.
    package var image: String
    package var imageName: String
    package var program: [String]
    package var limits: LimitsView
    /// Seconds since 1970.
    package var createdAt: Double
    /// Hosts that hold a replica.
    package var replicas: [ReplicaView]
    package var lastHandoff: HandoffSummary?
    /// pid of the sandbox's init on its host.
    package var pid: Int32?
    /// Where replicas are wanted and why; nil until the user has been seen at an access point.
    package var plan: ReplicaPlanView?
    /// Set where there must be a restorable copy at any moment.
    package var wholeCopy: Bool?

    enum CodingKeys: String, CodingKey {
        case user, host, generation, state, addresses, image, program, limits, replicas, pid, plan
        case imageName = "image_name"
        case createdAt = "created_at"
        case lastHandoff = "last_handoff"
        case wholeCopy = "whole_copy"
    }
}

/// Limits of an SMI.
package struct LimitsView: Codable, Sendable {
    /// Bytes.
    package var memory: Int64
    package var cpus: Double
    package var pids: Int
}

/// One replica of an SMI.
package struct ReplicaView: Codable, Sendable {
    package var user: String
    package var host: String
    /// `named`, `previous` or `predicted`.
    package var reason: String
    /// Whether the owner is connected to it.
    package var connected: Bool
    /// The last epoch that it is known to hold whole; 0 for none.
    package var epoch: UInt64
    package var epochsBehind: UInt64
    /// What a hand-off to it would have to send now, bytes, as far as rounds have seen.
    package var bytesBehind: Int64
    /// Since it last took in an epoch; nil where it has not since the owner has it.
    package var secondsBehind: Double?

    enum CodingKeys: String, CodingKey {
        case user, host, reason, connected, epoch
        case epochsBehind = "epochs_behind"
        case bytesBehind = "bytes_behind"
        case secondsBehind = "seconds_behind"
    }
}

/// The answer to `launch`.
package struct LaunchReply: Codable, Sendable {
    package var user: String
    package var host: String
    package var generation: Int
    package var addresses: AddressesView
    package var image: String
    package var pid: Int32
    /// From the request's arrival at the owner until smi-init had started the program, ms.
    package var launchMs: Double
    /// Milliseconds of each phase.
    package var phases: [String: Double]

    enum CodingKeys: String, CodingKey {
        case user, host, generation, addresses, image, pid, phases
        case launchMs = "launch_ms"
    }
}

/// One host as `smirun host ls` shows it.
package struct HostView: Codable, Sendable {
    package var name: String
    /// pid of its daemon; nil where it does not answer.
    package var pid: Int32?
    /// `ready` or `down`.
    package var state: String
    package var addresses: [String]
    /// Users whose SMIs it owns.
    package var smis: [String]
}

/// One process of an SMI as `smirun ps` shows it.
package struct ProcessView: Codable, Sendable {
    /// pid inside the sandbox.
    package var pid: Int32
    package var ppid: Int32
    /// pid on the host.
    package var hostPid: Int32
    package var name: String
    package var command: String
    package var state: String
    /// Bytes.
    package var rss: Int64

    enum CodingKeys: String, CodingKey {
        case pid, ppid, name, command, state, rss
        case hostPid = "host_pid"
    }
}

/// One access point as `smirun ap ls` shows it.
package struct AccessPointView: Codable, Sendable {
    package var ap: String
    package var host: String
    /// Metres.
    package var x: Double?
    package var y: Double?
    /// Degrees, WGS84.
    package var lat: Double?
    package var lon: Double?
    package var zone: String?

    /// An access point and the host that serves it.
    package init(
        ap: String,
        host: String,
        x: Double? = nil,
        y: Double? = nil,
        lat: Double? = nil,
        lon: Double? = nil,
        zone: String? = nil
    ) {
        self.ap = ap
        self.host = host
        self.x = x
        self.y = y
        self.lat = lat
        self.lon = lon
        self.zone = zone
    }
}

/// One finding of `smirun doctor`.
package struct FindingView: Codable, Sendable {
    /// `ok`, `warning` or `error`.
    package var level: String
    package var what: String
    package var finding: String
    package var remedy: String?
}

/// One line of a streamed `handoff`: either progress or, last, the report.
package struct HandoffProgress: Codable, Sendable {
    package var phase: String?
    package var bytes: Int64?
    package var of: Int64?
    package var report: HandoffReport?

    /// A step, or the report.
    package init(phase: String? = nil, bytes: Int64? = nil, of: Int64? = nil, report: HandoffReport? = nil) {
        self.phase = phase
        self.bytes = bytes
        self.of = of
        self.report = report
    }
}
