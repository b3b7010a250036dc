import Glibc
import IsolationProbe
import LinuxSystem
import Testing

@testable import Isolation

/// A host of one test: directories, cgroups and names of its own, removed by `tearDown`.
///
/// Everything happens in the network namespace that the tests run in; table and parameters are put back as they were.
final class TestHost: Sendable {
    let host: SandboxHost
    let paths: HostPaths
    private let directory: String
    private let forwarding: [(path: String, value: String)]
    private let hadTable: Bool

    /// Makes and prepares a host that has the test image.
    init(image: TestImage) async throws {
        directory = "/tmp/smirun-isolation-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        paths = HostPaths(
            state: directory + "/state",
            run: directory + "/run",
            libexec: image.libexec,
            cgroupRoot: "/smirun-isolation-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        )
        forwarding = Self.parameters.compactMap { path in
            (try? FileContents.string(of: path)).map { (path, $0) }
        }
        hadTable = try HelperCommand(["nft", "list", "table", "inet", PacketFilter.table]).run().status == 0
        host = SandboxHost(paths: paths)
        for address in Self.addresses { _ = try HelperCommand(["ip", "addr", "add", address, "dev", "lo"]).run() }
        try Directories.make(paths.run)
        // As on a real host: the images of a cut never touch a disk.
        try Mounts.mount("tmpfs", on: paths.run, type: "tmpfs", options: "mode=0700")
        try await host.prepare()
        try syscall("link", paths.images) { symlink(image.file, paths.images + "/" + image.hex + ".erofs") }
    }

    /// The host's own addresses, as a real one has; for documentation (RFC 5737, RFC 3849).
    static let addresses = ["192.0.2.77/32", "2001:db8::77/128"]

    private static let parameters = [
        "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding",
        "/proc/sys/net/ipv6/conf/default/forwarding",
    ]

    /// A specification for this host's image.
    func spec(
        _ user: String,
        index: Int,
        image: TestImage,
        program: [String] = [],
        limits: ResourceLimits = ResourceLimits(memory: 96 << 20, cpus: 1, pids: 64)
    ) -> SandboxSpec {
        SandboxSpec(
            user: user,
            image: "sha256:" + image.hex,
            program: program,
            environment: ["LC_ALL=C"],
            limits: limits,
            address: SandboxAddress(index: index),
            secret: (0..<32).map { _ in UInt8.random(in: 0...255) }
        )
    }

    /// Removes everything; the names of whatever is left then.
    func tearDown() async -> [String] {
        for presence in (try? await host.survey()) ?? [] { try? await host.destroy(presence.user) }
        let tree = CgroupTree(paths.cgroupRoot)
        _ = tree.endProcesses(before: .now + .seconds(5))
        var left = tree.remove(before: .now + .seconds(5))
        left += ((try? SandboxNetwork.links()) ?? [:]).values
        let mounts = (try? FileContents.string(of: "/proc/self/mountinfo")) ?? ""
        left += mounts.split(separator: "\n").filter { $0.contains(paths.run + "/images") }.map(String.init)
        try? Mounts.detachAll(paths.run)
        try? Directories.removeTree(directory)
        for address in Self.addresses { _ = try? HelperCommand(["ip", "addr", "del", address, "dev", "lo"]).run() }
        if !hadTable { try? host.network.filter.remove() }
        for (path, value) in forwarding { try? FileContents.write(value, to: path) }
        return left
    }

    /// Runs a test on a host of its own and checks that nothing of it is left.
    static func with(_ body: (TestHost, TestImage) async throws -> Void) async throws {
        let image = try TestImage.shared.get()
        let host = try await TestHost(image: image)
        do {
            try await body(host, image)
        } catch {
            _ = await host.tearDown()
            throw error
        }
        let left = await host.tearDown()
        #expect(left.isEmpty)
    }

    /// How the probe runs commands inside.
    static func runner(_ spec: SandboxSpec) -> IsolationProbe.RunInside {
        { argv, input in try await run(spec, argv, input).1 }
    }

    /// Runs a command inside through smi-init, as the product does.
    static func run(_ spec: SandboxSpec, _ argv: [String], _ input: [UInt8] = []) async throws -> (Int32, String) {
        try await offload {
            let (source, output, error) = try (
                DescriptorPassing.memoryFile("in"), DescriptorPassing.memoryFile("out"),
                DescriptorPassing.memoryFile("err")
            )
            try FileContents.writeAll(input, to: source)
            try syscall("lseek") { lseek(source.raw, 0, SEEK_SET) }
            let local = SessionInput(input: source.raw, output: WriteEnd(output.raw), error: WriteEnd(error.raw))
            let endpoint = InitEndpoint(address: spec.address.ipv4, secret: spec.secret)
            let start = SessionStart.exec(argv: argv, environment: [], workingDirectory: "")
            let client = try SessionClient(start: start, local: local, patience: .seconds(20)) {
                SessionLink(stream: try InitConnection.connect(endpoint))
            }
            let result = try client.run()
            try syscall("lseek") { lseek(output.raw, 0, SEEK_SET) }
            let text = String(decoding: try FileContents.bytes(of: output), as: UTF8.self)
            guard case .exited(.status(let status)) = result.outcome else { return (-1, text) }
            return (status, text)
        }
    }
}

/// An image with busybox and smi-init, built once per run of the tests.
final class TestImage: Sendable {
    /// Digest of the file, hexadecimal.
    let hex: String
    /// The erofs file.
    let file: String
    /// `smi-init` and, where it was built, CRIU's preload library.
    let libexec: String
    private let directory: String

    init() throws {
        directory = Self.directory
        // A static value is never taken down.
        atexit { try? Directories.removeTree(TestImage.directory) }
        libexec = directory + "/libexec/smirun"
        file = directory + "/image.erofs"
        let root = directory + "/root"
        let sources = String(#filePath.dropLast("Tests/IsolationRootTests/TestHost.swift".count))
        try Self.run(
            ["make", "-s", "-C", sources, "-f", "Sources/smi-init/build.mk", "OUT=" + directory, "smi-init"]
        )
        let objects = Directories.entries(of: sources + "Sources/CCriuPreload").filter { $0.hasSuffix(".c") }
        try Self.run(
            [
                "cc", "-std=gnu17", "-O2", "-fPIC", "-fvisibility=hidden", "-shared", "-o",
                libexec + "/libsmirun-criu.so",
            ]
                + objects.map { sources + "Sources/CCriuPreload/" + $0 }
        )
        for name in ["bin", "sbin", "proc", "dev", "etc", "tmp", "root", "var/log"] {
            try Directories.make(root + "/" + name, mode: 0o755)
        }
        try Self.run(["cp", "/bin/busybox", root + "/bin/busybox"])
        for name in [
            "sh", "cat", "sleep", "rm", "chmod", "echo", "ls", "mkdir", "nc", "hostname", "mv", "touch", "date",
        ] {
            symlink("busybox", root + "/bin/" + name)
        }
        try Self.run(["cp", libexec + "/smi-init", root + "/sbin/smi-init"])
        try FileContents.replace(root + "/etc/passwd", with: Array("root:x:0:0:root:/root:/bin/sh\n".utf8), mode: 0o644)
        try FileContents.replace(root + "/etc/lower", with: Array("from the image\n".utf8), mode: 0o644)
        try Self.run(["mkfs.erofs", "--quiet", "-T0", file, root])
        let sum = try HelperCommand(["sha256sum", file]).run()
        hex = String(sum.output.prefix(64))
    }

    /// Of this process's image.
    private static var directory: String { "/tmp/smirun-image-\(getpid())" }

    /// One image for all tests of a process.
    static let shared = Result { try TestImage() }

    private static func run(_ argv: [String]) throws {
        let result = try HelperCommand(argv).run(timeout: .seconds(120))
        guard result.status == 0 else { throw ImageFailure(description: "\(argv[0]): \(result.output)\(result.error)") }
    }

    struct ImageFailure: Error, CustomStringConvertible { let description: String }
}
