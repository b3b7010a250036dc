import Foundation
import LinuxSystem
import Testing

@testable import Orchestrator

extension LabRootTests {
    @Suite struct LabDownTests {
        /// Makes a lab, does something to it, takes it down, and looks for traces.
        private func survives(_ name: String, _ damage: (LabFixture, LabStatus) throws -> Void) throws {
            try LabFixture.with(name) { fixture in
                let before = try Traces.of(fixture.layout)
                try damage(fixture, try fixture.up(2))
                #expect(try fixture.lab.down().found)
                try Traces.expect(fixture.layout, asBefore: before)
                #expect(fixture.lab.status().state == "down")
            }
        }

        @Test func aSupervisorAndDaemonsThatAreStopped() throws {
            try survives("stopped") { fixture, status in
                for host in status.hosts { try fixture.lab.signal(host.name, SIGSTOP) }
                kill(try #require(status.supervisor), SIGSTOP)
                #expect(fixture.becomes { $0.hosts.allSatisfy { $0.state == "stopped" } })
            }
        }

        @Test func aSupervisorThatWasKilled() throws {
            try survives("orphaned") { _, status in
                let supervisor = try #require(status.supervisor)
                kill(supervisor, SIGKILL)
                waitpid(supervisor, nil, 0)
            }
        }

        @Test func frozenProcesses() throws {
            try survives("frozen") { fixture, _ in
                let smi = CgroupTree(fixture.layout.cgroup(of: "host1") + "/smis/alice")
                try smi.create()
                var command = try fixture.lab.command(on: "host1", ["sleep", "1000"])
                command.cgroup = smi
                _ = try command.start()
                try FileContents.write("1", to: #require(smi.unified) + "/cgroup.freeze")
                for hierarchy in smi.hierarchies where hierarchy.controllers.contains("freezer") {
                    try FileContents.write("FROZEN", to: hierarchy.mount + smi.path + "/freezer.state")
                }
            }
        }

        @Test func processesThatTheirCgroupDoesNotKill() throws {
            try survives("hidden") { fixture, _ in
                let process = try fixture.lab.command(on: "host2", ["sleep", "1000"]).start()
                let hierarchies = CgroupHierarchy.mounted()
                // As criu is when it leaves a restored sandbox: only hierarchies without cgroup.kill know it as the lab's.
                guard hierarchies.count > 1, let unified = hierarchies.first(where: \.isUnified) else { return }
                try FileContents.write("\(process.pid)", to: unified.mount + "/cgroup.procs")
            }
        }

        @Test func missingAndForeignCgroups() throws {
            try survives("cgroups") { fixture, _ in
                // A hierarchy that lost its part, and one with cgroups that nobody recorded.
                let tree = CgroupTree(fixture.layout.cgroup)
                let legacy = try #require(tree.directories.first)
                mkdir(legacy + "/host1/smis", 0o755)
                mkdir(legacy + "/host1/smis/bob", 0o755)
                mkdir(legacy + "/stray", 0o755)
            }
        }

        @Test func recordsThatAreGoneOrNonsense() throws {
            try survives("records") { fixture, _ in
                try "nonsense".write(toFile: fixture.layout.record, atomically: true, encoding: .utf8)
                unlink(fixture.layout.supervisorRecord)
            }
        }

        @Test func mountsAndSandboxesInsideHosts() throws {
            try survives("inside") { fixture, _ in
                let script = """
                    set -e
                    mkdir -p \(fixture.layout.state)/smis/alice/rootfs
                    mount -t tmpfs none \(fixture.layout.state)/smis/alice/rootfs
                    ip link add smi1 type veth peer name smi1p
                    nft add table inet smirun
                    ip route add 10.88.0.1/32 dev eth0
                    """
                let result = try fixture.shell("host1", script)
                #expect(result.status == 0, "\(result.error)")
            }
        }

        @Test func aLabThatIsHalfMade() throws {
            try LabFixture.with("half") { fixture in
                let before = try Traces.of(fixture.layout)
                // As left by a `lab up` killed after its first steps.
                try makeDirectories(fixture.layout.directory)
                let plan = try LabPlan(hosts: 2, rate: .unshaped)
                let hosts = [LabHost(name: "host1", index: 1, rate: .unshaped)]
                let record = LabRecord(
                    plan: plan,
                    binary: fixture.standIn,
                    supervisor: fixture.standIn,
                    environment: [],
                    hosts: hosts
                )
                try RecordFile.store(record, at: fixture.layout.record)
                try makeDirectories(fixture.layout.images)
                let created = try makeDirectories(fixture.layout.run) + makeDirectories(fixture.layout.configuration)
                let namespaces = LabNamespaces(layout: fixture.layout)
                let holder = try namespaces.finish(namespaces.begin(hosts[0]))
                #expect(fixture.lab.status().state == "starting")
                #expect(try fixture.lab.down().processes == 1)
                waitpid(holder.pid, nil, 0)
                for directory in created { rmdir(directory) }
                try Traces.expect(fixture.layout, asBefore: before)
                #expect(try fixture.up(1).state == "up")
            }
        }

        @Test(arguments: [5, 60, 120, 200, 300, 450, 700])
        func aLabWhoseMakerIsKilledOnTheWay(_ milliseconds: Int32) throws {
            try LabFixture.with("interrupted") { fixture in
                let before = try Traces.of(fixture.layout)
                let options = fixture.layout.arguments + ["--binary", fixture.standIn]
                let maker = try HelperCommand([#require(LabFixture.supervisor), "lab", "up"] + options).start()
                _ = try maker.hasEnded(within: milliseconds)
                try maker.signal(SIGKILL)
                _ = try maker.wait()
                _ = try fixture.lab.down()
                try Traces.expect(fixture.layout, asBefore: before)
            }
        }

        @Test func processesOutsideTheLabAreNotTouched() throws {
            try LabFixture.with("outside") { fixture in
                let outsider = try HelperCommand(["sleep", "1000"]).start()
                try fixture.up(1)
                var visitor = try fixture.lab.command(on: "host1", ["sleep", "1000"])
                visitor.cgroup = nil
                let guest = try visitor.start()
                _ = try fixture.lab.down()
                #expect(try outsider.poll() == nil)
                #expect(try guest.poll() == nil)
                for child in [outsider, guest] {
                    try child.signal(SIGKILL)
                    _ = try child.wait()
                }
            }
        }
    }
}
