/// What one SMI's sandbox is made from, on whichever host: fixed for the SMI's life.
package struct SandboxSpec: Codable, Sendable, Equatable {
    /// The user, `[a-z][a-z0-9-]{0,31}`; also the sandbox's host name.
    package var user: String
    /// Digest of the base image, `sha256:<64 hex digits>`.
    package var image: String
    /// The main program and its arguments; empty for a sandbox that serves sessions only.
    package var program: [String]
    /// `NAME=value` entries added to the program's and the sessions' environment.
    package var environment: [String]
    /// Limits of the sandbox's cgroup.
    package var limits: ResourceLimits
    /// The sandbox's fixed addresses.
    package var address: SandboxAddress
    /// Shared by the owner's host agent and smi-init; 32 random bytes.
    package var secret: [UInt8]

    /// Describes a sandbox.
    package init(
        user: String,
        image: String,
        program: [String],
        environment: [String],
        limits: ResourceLimits,
        address: SandboxAddress,
        secret: [UInt8]
    ) {
        self.user = user
        self.image = image
        self.program = program
        self.environment = environment
        self.limits = limits
        self.address = address
        self.secret = secret
    }
}

/// Limits of a sandbox's cgroup.
package struct ResourceLimits: Codable, Sendable, Equatable {
    /// Memory, bytes.
    package var memory: Int64
    /// Processor time, in processors (1.5 is one and a half).
    package var cpus: Double
    /// Processes and threads.
    package var pids: Int

    /// Limits; the defaults suit one person's session.
    package init(memory: Int64 = 256 << 20, cpus: Double = 1, pids: Int = 1024) {
        self.memory = memory
        self.cpus = cpus
        self.pids = pids
    }
}

/// A sandbox's fixed addresses, derived from its index in the cluster (1…65534).
package struct SandboxAddress: Codable, Sendable, Equatable {
    /// The SMI's index in the cluster.
    package var index: Int
    /// Such as `10.88.0.7`, used with prefix length 32.
    package var ipv4: String
    /// Such as `fd53:4d49::7`, used with prefix length 128.
    package var ipv6: String

    /// The addresses of one index.
    package init(index: Int, ipv4Prefix: String = "10.88", ipv6Prefix: String = "fd53:4d49::") {
        self.index = index
        self.ipv4 = "\(ipv4Prefix).\(index >> 8).\(index & 255)"
        self.ipv6 = ipv6Prefix + String(index, radix: 16)
    }

    /// The sandbox's MAC address, the same on every host.
    package var mac: [UInt8] { [0x02, 0x53, 0x4d, 0x49, UInt8(index >> 8 & 255), UInt8(index & 255)] }

    /// Name of the link's end on the host.
    package var hostLink: String { "smi\(index)" }
}
