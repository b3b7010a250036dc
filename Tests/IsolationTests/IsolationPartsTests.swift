import Glibc
import Testing

@testable import Isolation
@testable import LinuxSystem

@Suite struct IsolationPartsTests {
    @Test func `a sandbox has exactly eleven capabilities`() {
        #expect(CapabilitySet.sandbox.bits == 0x8004_05fb)
        #expect(CapabilitySet.sandbox.bits.nonzeroBitCount == 11)
    }

    @Test func `values of cgroup files are found by key`() {
        let bytes = Array("populated 1\nfrozen 0\n".utf8)
        #expect(SandboxCgroup.value(of: "populated", in: bytes) == 1)
        #expect(SandboxCgroup.value(of: "frozen", in: bytes) == 0)
        #expect(SandboxCgroup.value(of: "frozen_", in: bytes) == nil)
    }

    @Test func `a host without a version 2 cgroup hierarchy is unsuitable`() {
        let legacy = CgroupHierarchy(mount: "/sys/fs/cgroup/memory", controllers: ["memory"], isUnified: false)
        #expect(throws: IsolationError.self) {
            _ = try SandboxCgroup(user: "alice", root: "/smirun", hierarchies: [legacy])
        }
    }

    @Test func `options of the mounted hierarchy are kept when one is added`() {
        let table = """
            30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
            31 23 0:27 / /ro ro,nosuid - cgroup2 cgroup2 ro
            """
        #expect(CgroupMoves.options(of: "/sys/fs/cgroup", in: table) == ["nsdelegate", "memory_recursiveprot"])
        #expect(CgroupMoves.options(of: "/ro", in: table) == nil)
        #expect(CgroupMoves.options(of: "/none", in: table) == nil)
    }

    @Test func `only hierarchies with limits, and version 2, are used`() throws {
        let names = ["memory", "cpu", "pids", "freezer", "cpuset"]
        let legacy = names.map { CgroupHierarchy(mount: "/c/" + $0, controllers: [$0], isUnified: false) }
        let unified = CgroupHierarchy(mount: "/c/unified", controllers: [], isUnified: true)
        let cgroup = try SandboxCgroup(user: "alice", root: "/smirun", hierarchies: legacy + [unified])
        #expect(cgroup.unified == "/c/unified/smirun/smis/alice")
        #expect(cgroup.legacyDirectories == ["memory", "cpu", "pids"].map { "/c/\($0)/smirun/smis/alice" })
    }

    @Test func `the numbers of a process inside and outside are read from its status`() {
        let inside = NamespacedPid(outer: 4321, status: "Name:\tsh\nNSpid:\t4321\t7\nThreads:\t1\n")
        #expect(inside?.inner == 7)
        #expect(NamespacedPid(outer: 4321, status: "Name:\tcriu\nNSpid:\t4321\n") == nil)
    }

    @Test func `each mask is mounted from the host and named in the images`() {
        let masks = ProcMasks(files: ["/proc/kcore"], directories: ["/proc/acpi"], readOnly: ["/proc/sys"])
        let sources = MaskSources(paths: HostPaths(run: "/r"))
        #expect(
            sources.externalMounts(of: masks) == [
                ExternalMount(mountPoint: "/proc/kcore", name: "mask-file", source: "/r/mask/file"),
                ExternalMount(mountPoint: "/proc/acpi", name: "mask-directory", source: "/r/mask/directory"),
            ]
        )
    }

    @Test func `what would open a connection from a sandbox is dropped before anything is accepted`() throws {
        let rules = PacketFilter(network4: "10.1.0.0/16", network6: "fd00::/64").rules
        let dropped = try #require(rules.range(of: "tcp flags & (syn | ack) == syn drop"))
        let accepted = try #require(rules.range(of: "meta l4proto tcp accept"))
        let tracked = try #require(rules.range(of: "ct state established,related accept"))
        #expect(dropped.lowerBound < accepted.lowerBound && accepted.lowerBound < tracked.lowerBound)
        #expect(rules.contains("ip saddr 10.1.0.0/16 jump to_host"))
        #expect(rules.contains("oifname @sandboxes tcp dport 1021 drop"))
    }

    @Test func `a full disk and a missing privilege have codes of their own`() {
        #expect(IsolationError(SyscallError("write", code: ENOSPC), purpose: "launch alice").code == .diskFull)
        #expect(IsolationError(SyscallError("mount", code: EINVAL), purpose: "launch alice").code == .systemCall)
    }

    @Test func `work of one user is done in turn and that of others beside it`() async throws {
        let locks = UserLocks()
        await locks.acquire("alice")
        async let second = locks.alone("alice") { 2 }
        #expect(try await locks.alone("bob") { 1 } == 1)
        await locks.release("alice")
        #expect(try await second == 2)
        await #expect(throws: SyscallError.self) {
            try await locks.alone("alice") { throw SyscallError("x", code: EIO) }
        }
        #expect(try await locks.alone("alice") { 3 } == 3)
    }
}
