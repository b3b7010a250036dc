import Foundation
import Testing

/// Labs, made and damaged; one at a time, as each uses the whole machine.
@Suite(
    .enabled(if: geteuid() == 0 && LabFixture.supervisor != nil, "needs root and the smirun binary beside the tests"),
    .serialized
)
struct LabRootTests {}
