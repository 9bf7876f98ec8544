//! The interrupt controllers of the VM: two 8259 and the I/O APIC. Local APICs belong to their CPUs.

use kvm_bindings::{KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use crate::arch::CpuError;

const CHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];
const WHAT: &str = "interrupt controllers";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ChipState {
    chips: Vec<kvm_irqchip>,
}

impl ChipState {
    pub(crate) fn capture(vm: &VmFd) -> Result<Self, CpuError> {
        let chips = CHIPS.map(|chip_id| {
            let mut chip = kvm_irqchip {
                chip_id,
                ..Default::default()
            };
            vm.get_irqchip(&mut chip)
                .map(|()| chip)
                .map_err(|source| CpuError::Get { what: WHAT, source })
        });
        let chips = chips.into_iter().collect::<Result<_, _>>()?;
        Ok(Self { chips })
    }

    pub(crate) fn apply(&self, vm: &VmFd) -> Result<(), CpuError> {
        self.chips.iter().try_for_each(|chip| {
            vm.set_irqchip(chip)
                .map_err(|source| CpuError::Set { what: WHAT, source })
        })
    }
}
